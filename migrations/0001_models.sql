-- Models: a name, its immutable versions, and the movable aliases that clients ask for.
-- The functions below are the verbs of an operator: REST and schema `ops` both call them.

create table models (
    model_id     bigint generated always as identity primary key,
    name         text not null unique,
    is_default   boolean not null default false,
    paused_at    timestamptz,
    pause_reason text,
    created_at   timestamptz not null default now(),
    constraint model_names_are_lowercase_words check (name ~ '^[a-z0-9][a-z0-9._-]{0,99}$')
);
create unique index at_most_one_default_model on models ((true)) where is_default;
comment on table  models is 'One row per model name.';
comment on column models.is_default is 'The model of jobs that name no model; at most one row is true.';
comment on column models.paused_at is 'While set, no worker claims jobs of this model.';

create table model_versions (
    model_version_id bigint generated always as identity primary key,
    model_id         bigint not null references models,
    version          int not null check (version > 0),
    digest           bytea not null check (octet_length(digest) = 32),
    task             text not null,
    manifest         jsonb not null,
    files            jsonb not null,
    created_at       timestamptz not null default now(),
    retired_at       timestamptz,
    unique (model_id, version),
    unique (model_id, digest)
);
comment on table  model_versions is 'Immutable: a manifest and the SHA-256 of each file that the manifest names.';
comment on column model_versions.digest is 'SHA-256 over the manifest and the digests of its files.';
comment on column model_versions.files is 'File name to SHA-256 in hex; the objects live under models/<sha256>.';

create table model_aliases (
    model_id         bigint not null references models,
    alias            text not null check (alias ~ '^[a-z][a-z0-9._-]{0,49}$'),
    model_version_id bigint not null references model_versions,
    updated_at       timestamptz not null default now(),
    primary key (model_id, alias)
);
comment on table model_aliases is 'Movable names of versions; a job stores the version that its alias meant at submit.';

create function pause_model(name text, why text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update models m set paused_at = coalesce(m.paused_at, now()), pause_reason = pause_model.why where m.name = pause_model.name;
    return case when found then 'paused' else 'not found' end;
end $$;
comment on function pause_model is 'Answers paused or not found. Clients may still submit, and running jobs end; workers claim no job of the model.';

create function resume_model(name text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    resumed bigint;
begin
    update models m set paused_at = null, pause_reason = null where m.name = resume_model.name returning m.model_id into resumed;
    if resumed is null then
        return 'not found';
    end if;
    perform pg_notify('darkroom_queued', resumed::text);
    return 'resumed';
end $$;
comment on function resume_model is 'Answers resumed or not found. A second call changes nothing.';

create function set_model_alias(model text, alias text, version int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    picked model_versions;
begin
    if not exists (select from models m where m.name = set_model_alias.model) then
        return 'no model';
    end if;
    -- The lock lasts until the commit, so the version cannot be retired meanwhile.
    select v.* into picked from model_versions v join models m using (model_id)
    where m.name = set_model_alias.model and v.version = set_model_alias.version for share of v;
    if not found then
        return 'no version';
    elsif picked.retired_at is not null then
        return 'retired';
    end if;
    insert into model_aliases as a (model_id, alias, model_version_id) values (picked.model_id, set_model_alias.alias, picked.model_version_id)
    on conflict (model_id, alias) do update set model_version_id = excluded.model_version_id, updated_at = now();
    return 'set';
end $$;
comment on function set_model_alias is 'Answers set, no model, no version or retired. Jobs that were submitted before keep the version that the alias meant then.';

create function delete_model_alias(model text, alias text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    picked models;
begin
    select m.* into picked from models m where m.name = delete_model_alias.model;
    -- Jobs that name no model use this alias: without it each of them would be refused.
    if picked.is_default and delete_model_alias.alias = 'default' then
        return 'needed';
    end if;
    delete from model_aliases a where a.model_id = picked.model_id and a.alias = delete_model_alias.alias;
    return case when found then 'deleted' else 'not found' end;
end $$;
comment on function delete_model_alias is 'Answers deleted, not found or needed. The alias default of the default model is needed: move it instead. Jobs keep the version that the alias meant at their submit.';

create function retire_model_version(model text, version int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    picked bigint;
begin
    select v.model_version_id into picked from model_versions v join models m using (model_id)
    where m.name = retire_model_version.model and v.version = retire_model_version.version for update of v;
    if not found then
        return 'not found';
    elsif exists (select from model_aliases a where a.model_version_id = picked) then
        return 'aliased';
    end if;
    update model_versions v set retired_at = coalesce(v.retired_at, now()) where v.model_version_id = picked;
    return 'retired';
end $$;
comment on function retire_model_version is 'Answers retired, not found or aliased. An aliased version cannot retire: move the alias first. Jobs that already have the version still run.';

create function unretire_model_version(model text, version int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update model_versions v set retired_at = null from models m
    where m.model_id = v.model_id and m.name = unretire_model_version.model and v.version = unretire_model_version.version;
    return case when found then 'unretired' else 'not found' end;
end $$;
comment on function unretire_model_version is 'Answers unretired or not found. New jobs may name the version again. A second call changes nothing.';

create function push_model_version(name text, digest bytea, task text, manifest jsonb, files jsonb, alias text, actor text,
    out version int, out outcome text, out moved jsonb, out aliases jsonb)
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    pushed_model bigint;
    pushed       model_versions;
    wanted       text[] := array_remove(array[push_model_version.alias], null);
    one          text;
    was          int;
begin
    moved := '[]';
    -- This lock orders pushes of one model, so that each digest is one version and the numbers have no gap.
    select m.model_id into pushed_model from models m where m.name = push_model_version.name for no key update;
    if not found then
        perform pg_advisory_xact_lock(hashtext('darkroom.first_model'));
        insert into models (name, is_default) values (push_model_version.name, not exists (select from models)) on conflict do nothing;
        select m.model_id into pushed_model from models m where m.name = push_model_version.name for no key update;
    end if;
    select v.* into pushed from model_versions v where v.model_id = pushed_model and v.digest = push_model_version.digest for share;
    if found then
        outcome := 'unchanged';
        if pushed.retired_at is not null and cardinality(wanted) > 0 then
            outcome := 'retired';
        end if;
    else
        outcome := 'new';
        insert into model_versions (model_id, version, digest, task, manifest, files)
        select pushed_model, coalesce(max(v.version), 0) + 1, push_model_version.digest, push_model_version.task,
               push_model_version.manifest, push_model_version.files
        from model_versions v where v.model_id = pushed_model
        returning * into pushed;
        if pushed.version = 1 and not 'default' = any(wanted) then
            wanted := array['default'] || wanted;
        end if;
    end if;
    version := pushed.version;
    perform audited('push_version', push_model_version.name,
        jsonb_build_object('version', pushed.version, 'digest', 'sha256:' || encode(push_model_version.digest, 'hex'), 'alias', push_model_version.alias),
        outcome, push_model_version.actor);
    if outcome <> 'retired' then
        foreach one in array wanted loop
            was := null;
            select v.version into was from model_aliases a join model_versions v using (model_version_id)
            where a.model_id = pushed_model and a.alias = one;
            continue when was = pushed.version;
            perform audited('set_alias', push_model_version.name, jsonb_build_object('alias', one, 'version', pushed.version),
                set_model_alias(push_model_version.name, one, pushed.version), push_model_version.actor);
            moved := moved || jsonb_build_object('alias', one, 'from', was, 'to', pushed.version);
        end loop;
    end if;
    select coalesce(jsonb_object_agg(a.alias, v.version), '{}') into push_model_version.aliases
    from model_aliases a join model_versions v using (model_version_id) where a.model_id = pushed_model;
end $$;
comment on function push_model_version is 'Registers a version by its digest, or finds it, and points alias to it, if there is one. The first version of a model gets the alias default too. '
    'outcome is new, unchanged or retired; a retired version gets no alias, and then nothing changes. moved lists the aliases that the call moved, aliases all of them. Writes the audit itself.';
