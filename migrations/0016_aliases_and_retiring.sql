-- What an admin does to model versions: one function a verb, called by REST and by schema ops alike.

create function set_model_alias(model text, alias text, version int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    picked model_versions;
begin
    if not exists (select from models m where m.name = set_model_alias.model) then
        return 'no model';
    end if;
    -- Held until the commit, so that it is not retired meanwhile.
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
comment on function set_model_alias is 'set, no model, no version or retired. Jobs that were submitted before keep the version that the alias meant then.';

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
comment on function retire_model_version is 'retired, not found or aliased: an alias means it, and has to be moved first. Jobs that have it already are not touched.';

create function ops.set_alias(model text, alias text, version int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := set_model_alias(model, alias, version);
begin
    if outcome = 'no model' then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    elsif outcome = 'no version' then
        raise exception 'model % has no version %', model, coalesce(version::text, 'null') using errcode = 'no_data_found',
            hint = format('select version, digest, aliases from ops.models where name = %L order by version desc;', model);
    elsif outcome = 'retired' then
        raise exception 'version % of model % is retired', version, model using errcode = 'object_not_in_prerequisite_state',
            hint = format('select version, digest, aliases from ops.models where name = %L and retired_at is null;', model);
    end if;
    return audited('set_alias', model, jsonb_build_object('alias', alias, 'version', version), outcome);
end $$;
comment on function ops.set_alias is 'Lets an alias of a model mean this version from now on: a rollout, or the way back. Jobs keep the version that they were submitted with.';

create function ops.retire(model text, version int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := retire_model_version(model, version);
begin
    if outcome = 'not found' then
        raise exception 'there is no version % of model %', coalesce(version::text, 'null'), coalesce(model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version from ops.models;';
    elsif outcome = 'aliased' then
        raise exception 'an alias of model % means version %', model, version using errcode = 'object_not_in_prerequisite_state',
            hint = format('select unnest(aliases) from ops.models where name = %L and version = %s; then move each: select ops.set_alias(…);', model, version);
    end if;
    return audited('retire_version', model, jsonb_build_object('version', version), outcome);
end $$;
comment on function ops.retire is 'Lets no new job name this version of a model. Jobs that have it already run. Repeating is fine.';

select grant_privileges();
