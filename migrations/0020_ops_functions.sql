-- Contract: what an operator does to models, workers, keys and deliveries. Rules as in 0018.

create function ops.pause(model text, why text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := pause_model(model, why);
begin
    if outcome = 'not found' then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    end if;
    return audited('pause', model, jsonb_build_object('why', why), outcome);
end $$;
comment on function ops.pause is 'Stops workers from claiming jobs of a model, and records why. Clients may still submit, and running jobs end.';

create function ops.resume(model text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := resume_model(model);
begin
    if outcome = 'not found' then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    end if;
    return audited('resume', model, '{}', outcome);
end $$;
comment on function ops.resume is 'Lets workers claim jobs of a model again. A second call changes nothing.';

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
    elsif outcome in ('validating', 'rejected') then
        raise exception 'version % of model % is %', version, model, outcome using errcode = 'object_not_in_prerequisite_state',
            hint = format('select version, state, state_cause from ops.models where name = %L order by version desc;', model);
    end if;
    return audited('set_alias', model, jsonb_build_object('alias', alias, 'version', version), outcome);
end $$;
comment on function ops.set_alias is 'Points an alias of a model to this version: a rollout, or a rollback. Jobs keep the version that they were submitted with.';

create function ops.delete_alias(model text, alias text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := delete_model_alias(model, alias);
begin
    if outcome = 'not found' then
        raise exception 'model % has no alias %', coalesce(model, 'null'), coalesce(alias, 'null') using errcode = 'no_data_found',
            hint = 'select name, version, aliases from ops.models where aliases <> ''{}'';';
    elsif outcome = 'needed' then
        raise exception 'jobs that name no model use the alias default of model %', model using errcode = 'object_not_in_prerequisite_state',
            hint = format('move it: select ops.set_alias(%L, ''default'', …);', model);
    end if;
    return audited('delete_alias', model, jsonb_build_object('alias', alias), outcome);
end $$;
comment on function ops.delete_alias is 'Deletes an alias of a model. Jobs keep the version that they were submitted with. The alias default of the default model can only be moved.';

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
comment on function ops.retire is 'Retires a version: new jobs cannot name it. Jobs that already have it still run. A second call changes nothing.';

create function ops.prefetch(model text, version int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := prefetch_model_version(model, version);
begin
    if outcome = 'not found' then
        raise exception 'there is no version % of model %', coalesce(version::text, 'null'), coalesce(model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version from ops.models;';
    elsif outcome <> 'asked' then
        raise exception 'version % of model % is %', version, model, outcome using errcode = 'object_not_in_prerequisite_state',
            hint = format('select version, state, retired_at, aliases from ops.models where name = %L order by version desc;', model);
    end if;
    return audited('prefetch', model, jsonb_build_object('version', version), outcome);
end $$;
comment on function ops.prefetch is 'Asks the workers that run a model to load this version, before an alias moves to it. ops.workers shows who has it.';

create function ops.unretire(model text, version int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := unretire_model_version(model, version);
begin
    if outcome = 'not found' then
        raise exception 'there is no version % of model %', coalesce(version::text, 'null'), coalesce(model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version from ops.models;';
    end if;
    return audited('unretire_version', model, jsonb_build_object('version', version), outcome);
end $$;
comment on function ops.unretire is 'Takes back ops.retire: new jobs may name the version again. A second call changes nothing.';

create function ops.drain(worker bigint) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := drain_worker(worker);
begin
    if outcome <> 'draining' then
        raise exception '%', case outcome when 'gone' then format('worker %s has left already', worker) else format('there is no worker %s', worker) end
            using errcode = case outcome when 'gone' then 'object_not_in_prerequisite_state' else 'no_data_found' end,
                  hint = 'select worker_id, name, status from ops.workers where status in (''alive'', ''draining'');';
    end if;
    return audited('drain', worker::text, '{}', outcome);
end $$;
comment on function ops.drain is 'Asks a worker to claim no more jobs, finish the jobs that it holds, and exit. A second call changes nothing.';

create function ops.revoke_key(key_id text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := revoke_api_key(key_id);
begin
    if outcome = 'not found' then
        raise exception 'there is no API key %', coalesce(key_id, 'null') using errcode = 'no_data_found', hint = 'select key_id, name, owner from ops.api_keys;';
    end if;
    return audited('revoke_key', key_id, '{}', outcome);
end $$;
comment on function ops.revoke_key is 'Revokes an API key for good, by its key_id. A second call changes nothing.';

create function ops.redeliver(delivery uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := redeliver_webhook(delivery, null);
begin
    if outcome = 'not found' then
        raise exception 'there is no delivery %', coalesce(delivery::text, 'null') using errcode = 'no_data_found',
            hint = 'select delivery_id, url, status, last_error from ops.deliveries order by delivery_id desc limit 10;';
    end if;
    return audited('redeliver', 'delivery_' || replace(delivery::text, '-', ''), '{}', outcome);
end $$;
comment on function ops.redeliver is 'Sends a webhook again, under its id, with a new budget of attempts; within a second.';
