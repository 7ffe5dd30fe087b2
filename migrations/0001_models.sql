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
    signature        text check (length(signature) <= 4000),
    signed_by        text check (signed_by ~ '^[0-9A-F]{16}$'),
    state            text not null default 'ready',
    state_cause      text check (length(state_cause) <= 2000),
    state_worker     text,
    state_at         timestamptz not null default now(),
    alias_wanted     text check (alias_wanted ~ '^[a-z][a-z0-9._-]{0,49}$'),
    trial_lease_no   int not null default 0,
    trial_worker_id  bigint,
    trial_expires_at timestamptz,
    trial_attempts   smallint not null default 0,
    prefetch_at      timestamptz,
    load_error       text check (length(load_error) <= 2000),
    load_error_worker text,
    load_error_at    timestamptz,
    unique (model_id, version),
    unique (model_id, digest),
    constraint a_version_is_validating_ready_or_rejected check (state in ('validating', 'ready', 'rejected')),
    constraint a_rejected_version_has_a_cause check (state <> 'rejected' or state_cause is not null),
    constraint only_a_validating_version_is_tried check (trial_worker_id is null or state = 'validating'),
    constraint only_a_validating_version_waits_for_an_alias check (alias_wanted is null or state = 'validating'),
    constraint a_trial_has_an_end check ((trial_worker_id is null) = (trial_expires_at is null))
);
create index model_versions_validating on model_versions (model_version_id) where state = 'validating';
comment on table  model_versions is 'A manifest and the SHA-256 of each file that the manifest names, both immutable; and whether a worker could load them.';
comment on column model_versions.digest is 'SHA-256 over the manifest and the digests of its files.';
comment on column model_versions.files is 'File name to SHA-256 in hex; the objects live under models/<sha256>.';
comment on column model_versions.signature is 'Signature of minisign that the last push with one brought, checked by the program that registered the version.';
comment on column model_versions.signed_by is 'Id of the key that made it.';
comment on column model_versions.state is 'validating: a worker has yet to load the version. ready: jobs may name it. rejected: it cannot be loaded. docs/states.md has the verbs.';
comment on column model_versions.state_cause is 'Why the version was rejected; while it is validating, why earlier workers could not decide; if it is ready, what the worker that tried it found wrong. First lines only.';
comment on column model_versions.state_worker is 'Name of the worker that decided, or that wrote the last line of the cause.';
comment on column model_versions.alias_wanted is 'The alias that moves to the version when its trial passes.';
comment on column model_versions.trial_lease_no is 'Grows when a worker claims the trial and when a worker loses it, never reset: the fencing token of the verdict.';
comment on column model_versions.trial_attempts is 'Tries in which a worker vanished or had no room; the third one rejects the version.';
comment on column model_versions.prefetch_at is 'When workers were last asked to load the version.';
comment on column model_versions.load_error is 'Why a worker last failed to load the version: first lines only. Decides nothing.';

create table model_aliases (
    model_id         bigint not null references models,
    alias            text not null check (alias ~ '^[a-z][a-z0-9._-]{0,49}$'),
    model_version_id bigint not null references model_versions,
    updated_at       timestamptz not null default now(),
    primary key (model_id, alias)
);
comment on table model_aliases is 'Movable names of versions; a job stores the version that its alias meant at submit.';

create function is_first_ready_version(model_id bigint, version_id bigint) returns boolean
language sql stable set search_path = pg_catalog, public, pg_temp as $$
    select not exists (select from model_versions v where v.model_id = is_first_ready_version.model_id and v.state = 'ready'
                                                      and v.model_version_id <> is_first_ready_version.version_id)
$$;
comment on function is_first_ready_version is 'Whether no other version of the model is ready. Such a version gets the alias default.';

create function make_default_if_none(model_id bigint) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    -- Two first models at once: the second one waits, and then finds the first.
    perform pg_advisory_xact_lock(hashtext('darkroom.first_model'));
    update models m set is_default = true
    where m.model_id = make_default_if_none.model_id and not exists (select from models d where d.is_default);
end $$;
comment on function make_default_if_none is 'Makes this model the one of jobs that name no model, if there is none.';

-- Ends the trial of a version if `lease_no` still holds it, and answers the state of the version; null for a lease that is gone.
--
-- | verdict  | the version                                                                            |
-- |----------|----------------------------------------------------------------------------------------|
-- | loaded   | is ready. It gets the alias that its push wanted; `default` if its model has none      |
-- | refused  | is rejected, with `cause`: its files are wrong                                         |
-- | failed   | waits for another worker: this one has no room, or lost its device. The third attempt that failed or was lost rejects the version |
-- | lost     | as failed: the worker vanished, or did not end in time                                 |
-- | released | waits for another worker. Charges nothing: S3 is away, or the worker leaves            |
create function end_trial(version_id bigint, lease_no int, verdict text, cause text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    attempts_max constant int := 3;
    held model_versions; model text; worker text; attempts int; next_state text; line text; noted text;
begin
    -- The model first, as a push locks it: so the two cannot deadlock.
    perform from models m join model_versions v using (model_id) where v.model_version_id = end_trial.version_id for no key update of m;
    select v.* into held from model_versions v
    where v.model_version_id = end_trial.version_id and v.trial_lease_no = end_trial.lease_no and v.trial_worker_id is not null for update;
    if not found then
        return null;
    end if;
    select m.name into model from models m where m.model_id = held.model_id;
    select w.name into worker from workers w where w.worker_id = held.trial_worker_id;
    attempts := held.trial_attempts + (verdict in ('failed', 'lost'))::int;
    next_state := case when verdict = 'loaded' then 'ready' when verdict = 'refused' or attempts >= attempts_max then 'rejected' else 'validating' end;
    -- A worker that fails again in the same way adds no line.
    line := format('%s: %s', worker, coalesce(cause, 'no cause'));
    noted := case when verdict = 'loaded' then cause
                  when verdict = 'refused' then coalesce(cause, 'no cause')
                  when verdict = 'released' and starts_with(held.state_cause, line) then held.state_cause
                  else concat_ws(E'\n', line, held.state_cause) end;
    if next_state = 'rejected' and verdict <> 'refused' then
        noted := concat_ws(E'\n', format('no worker could load it in %s attempts', attempts), noted);
    end if;
    update model_versions v
    set state = next_state, state_cause = left(noted, 2000), state_worker = worker, state_at = now(), trial_attempts = attempts,
        trial_lease_no = v.trial_lease_no + 1, trial_worker_id = null, trial_expires_at = null,
        alias_wanted = case when next_state = 'validating' then v.alias_wanted end
    where v.model_version_id = held.model_version_id;
    if next_state = 'validating' then
        perform wake('darkroom_trials', '');
        return next_state;
    end if;
    -- No alias may mean a retired version.
    if next_state = 'ready' and held.retired_at is null then
        if is_first_ready_version(held.model_id, held.model_version_id) then
            perform make_default_if_none(held.model_id);
            insert into model_aliases (model_id, alias, model_version_id) values (held.model_id, 'default', held.model_version_id) on conflict do nothing;
        end if;
        insert into model_aliases as a (model_id, alias, model_version_id)
        select held.model_id, held.alias_wanted, held.model_version_id where held.alias_wanted is not null
        on conflict (model_id, alias) do update set model_version_id = excluded.model_version_id, updated_at = now();
    end if;
    return audited('end_trial', model, jsonb_build_object('version', held.version, 'alias', held.alias_wanted), next_state,
                   'worker ' || worker);
end $$;
comment on function end_trial is 'Ends the trial of a version under this lease number. Answers the state of the version, or null for a lease that is gone.';

create function prefetch_model_version(model text, version int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    picked model_versions;
begin
    select v.* into picked from model_versions v join models m using (model_id)
    where m.name = prefetch_model_version.model and v.version = prefetch_model_version.version for no key update of v;
    if not found then
        return 'not found';
    elsif picked.retired_at is not null then
        return 'retired';
    elsif picked.state <> 'ready' then
        return picked.state;
    end if;
    update model_versions v set prefetch_at = now() where v.model_version_id = picked.model_version_id;
    perform wake('darkroom_trials', '');
    return 'asked';
end $$;
comment on function prefetch_model_version is 'Answers asked, not found, retired, validating or rejected. Workers that run the model load the version soon; a worker that starts within ten minutes too.';

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
    perform wake('darkroom_queued', resumed::text);
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
    elsif picked.state <> 'ready' then
        return picked.state;
    end if;
    -- The last wish counts: a version that is still validating does not take the alias away later.
    update model_versions v set alias_wanted = null where v.model_id = picked.model_id and v.alias_wanted = set_model_alias.alias;
    insert into model_aliases as a (model_id, alias, model_version_id) values (picked.model_id, set_model_alias.alias, picked.model_version_id)
    on conflict (model_id, alias) do update set model_version_id = excluded.model_version_id, updated_at = now();
    return 'set';
end $$;
comment on function set_model_alias is 'Answers set, no model, no version, retired, validating or rejected. Jobs that were submitted before keep the version that the alias meant then.';

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
    -- A trial that passes later must not bring the alias back.
    update model_versions v set alias_wanted = null where v.model_id = picked.model_id and v.alias_wanted = delete_model_alias.alias;
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

-- Without `trial` the version is ready at once. With it a version that is not ready waits until a worker has loaded it, and so
-- does its alias; a rejected version is tried again.
create function push_model_version(name text, digest bytea, task text, manifest jsonb, files jsonb, alias text, trial boolean, actor text,
    signature text default null, signed_by text default null,
    out id bigint, out version int, out outcome text, out state text, out moved jsonb, out aliases jsonb)
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    pushed_model  bigint;
    pushed        model_versions;
    becomes_ready boolean := false;
    wanted        text[] := array_remove(array[push_model_version.alias], null);
    one           text;
    was           int;
begin
    moved := '[]';
    -- This lock orders pushes of one model, so that each digest is one version and the numbers have no gap.
    select m.model_id into pushed_model from models m where m.name = push_model_version.name for no key update;
    if not found then
        insert into models (name) values (push_model_version.name) on conflict do nothing;
        select m.model_id into pushed_model from models m where m.name = push_model_version.name for no key update;
    end if;
    select v.* into pushed from model_versions v
    where v.model_id = pushed_model and v.digest = push_model_version.digest for no key update;
    if not found then
        outcome := 'new';
        becomes_ready := not push_model_version.trial;
        insert into model_versions (model_id, version, digest, task, manifest, files, signature, signed_by, state, alias_wanted)
        select pushed_model, coalesce(max(v.version), 0) + 1, push_model_version.digest, push_model_version.task,
               push_model_version.manifest, push_model_version.files, push_model_version.signature, push_model_version.signed_by, case when push_model_version.trial then 'validating' else 'ready' end,
               case when push_model_version.trial then push_model_version.alias end
        from model_versions v where v.model_id = pushed_model
        returning * into pushed;
    elsif pushed.retired_at is not null and cardinality(wanted) > 0 then
        outcome := 'retired';
    else
        outcome := 'unchanged';
        if push_model_version.signature is not null then
            update model_versions v set signature = push_model_version.signature, signed_by = push_model_version.signed_by
            where v.model_version_id = pushed.model_version_id returning v.* into pushed;
        end if;
        becomes_ready := pushed.state <> 'ready' and not push_model_version.trial;
        if pushed.state = 'rejected' and push_model_version.trial then
            update model_versions v set state = 'validating', state_cause = null, state_worker = null, state_at = now(), trial_attempts = 0
            where v.model_version_id = pushed.model_version_id returning v.* into pushed;
        end if;
        -- A worker that tries the version now goes on, or loses the trial where none is wanted.
        if pushed.state = 'validating' then
            update model_versions v set alias_wanted = coalesce(push_model_version.alias, v.alias_wanted)
            where v.model_version_id = pushed.model_version_id returning v.* into pushed;
        end if;
        if becomes_ready then
            update model_versions v
            set state = 'ready', state_cause = null, state_worker = null, state_at = now(), alias_wanted = null, trial_attempts = 0,
                trial_lease_no = v.trial_lease_no + 1, trial_worker_id = null, trial_expires_at = null
            where v.model_version_id = pushed.model_version_id returning v.* into pushed;
        end if;
    end if;
    id := pushed.model_version_id;
    version := pushed.version;
    state := pushed.state;
    perform audited('push_version', push_model_version.name,
        jsonb_build_object('version', pushed.version, 'digest', 'sha256:' || encode(push_model_version.digest, 'hex'), 'alias', push_model_version.alias,
                           'state', nullif(pushed.state, 'ready'), 'signed_by', push_model_version.signed_by),
        outcome, push_model_version.actor);
    if pushed.state = 'validating' and outcome <> 'retired' then
        -- The last wish counts: another version that is still validating does not take the alias away later.
        update model_versions v set alias_wanted = null
        where v.model_id = pushed_model and v.alias_wanted = push_model_version.alias and v.model_version_id <> pushed.model_version_id;
        perform wake('darkroom_trials', '');
    elsif outcome <> 'retired' then
        if becomes_ready and is_first_ready_version(pushed_model, pushed.model_version_id) then
            perform make_default_if_none(pushed_model);
            wanted := array['default'] || array_remove(wanted, 'default');
        end if;
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
comment on function push_model_version is 'Registers a version by its digest, or finds it, and points alias to it, if there is one. The first ready version of a model gets the alias default too. '
    'outcome is new, unchanged or retired; a retired version gets no alias, and then nothing changes. moved lists the aliases that the call moved, aliases all of them. Writes the audit itself.';
