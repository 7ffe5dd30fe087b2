-- Submits by SQL. `ops.enqueue` refuses what REST refuses: a value that the programs cannot read would break their statements.

create function checked_params(manifest jsonb, asked jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, public, pg_temp as $$
declare
    name text; spec jsonb; value jsonb; filled jsonb := '{}';
begin
    if jsonb_typeof(asked) is distinct from 'object' then
        raise exception 'params must be a JSON object' using errcode = 'invalid_parameter_value';
    end if;
    for name in select jsonb_object_keys(asked) loop
        if manifest -> 'params' -> name is null then
            raise exception 'model % has no parameter %', manifest ->> 'name', name using errcode = 'invalid_parameter_value',
                hint = 'Its manifest lists them: select manifest -> ''params'' from model_versions.';
        end if;
    end loop;
    for name, spec in select * from jsonb_each(coalesce(manifest -> 'params', '{}')) loop
        value := coalesce(asked -> name, spec -> 'default');
        if not (case spec ->> 'type'
                when 'boolean' then jsonb_typeof(value) = 'boolean'
                when 'number' then jsonb_typeof(value) = 'number'
                when 'integer' then jsonb_typeof(value) = 'number' and value::text !~ '\.|[eE]'
                else false end) then
            raise exception 'parameter % must be of type %, not %', name, spec ->> 'type', value using errcode = 'invalid_parameter_value';
        elsif spec ->> 'type' <> 'boolean' and (value::numeric < (spec ->> 'minimum')::numeric or value::numeric > (spec ->> 'maximum')::numeric) then
            raise exception 'parameter % must lie between % and %', name, coalesce(spec ->> 'minimum', '…'), coalesce(spec ->> 'maximum', '…')
                using errcode = 'invalid_parameter_value';
        end if;
        filled := filled || jsonb_build_object(name, value);
    end loop;
    return filled;
end $$;
comment on function checked_params is 'Checks parameters against a manifest, and answers them with the defaults filled in. Follows the rules of Manifest::params.';

create function enqueue_job(model text, owner text, image text, params jsonb, metadata jsonb, priority int, run_at timestamptz, deadline_at timestamptz,
                            retain_for interval, attempts_max int, interruptions_max int, attempt_timeout_seconds int) returns uuid
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    asked    text[] := regexp_match(enqueue_job.model, '^([a-z0-9][a-z0-9._-]*)(?:@sha256:([0-9a-f]{64})|@([a-z][a-z0-9._-]*)|:(\d{1,9}))?$');
    by_alias text := case when asked[2] is null and asked[4] is null then coalesce(asked[3], 'default') end;
    picked model_versions; stored images; new_id uuid := new_job_id(); due timestamptz := greatest(enqueue_job.run_at, clock_timestamp());
begin
    select v.* into picked from model_versions v join models m using (model_id)
    where m.name = asked[1] and v.retired_at is null and v.state = 'ready'
      and (asked[2] is null or v.digest = decode(asked[2], 'hex')) and (asked[4] is null or v.version = asked[4]::int)
      and (by_alias is null or exists (select from model_aliases a where a.model_version_id = v.model_version_id and a.alias = by_alias));
    if not found then
        raise exception 'no model %', coalesce(enqueue_job.model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version, aliases from ops.models where retired_at is null and state = ''ready'';';
    elsif priority is null or priority not between -100 and 100 then
        raise exception 'priority % does not lie between -100 and 100', coalesce(priority::text, 'null') using errcode = 'invalid_parameter_value';
    elsif deadline_at <= due then
        raise exception 'the deadline % is past before the job is due', deadline_at using errcode = 'invalid_parameter_value';
    elsif not coalesce(extract(year from enqueue_job.run_at at time zone 'UTC') between 1970 and 9999, enqueue_job.run_at is null) then
        raise exception 'run_at % must lie in the years 1970 to 9999', enqueue_job.run_at using errcode = 'invalid_parameter_value';
    elsif not coalesce(extract(year from enqueue_job.deadline_at at time zone 'UTC') between 1970 and 9999, enqueue_job.deadline_at is null) then
        raise exception 'the deadline % must lie in the years 1970 to 9999', enqueue_job.deadline_at using errcode = 'invalid_parameter_value';
    elsif not coalesce(enqueue_job.retain_for > interval '0' and enqueue_job.retain_for <= interval '3650 days', false) then
        raise exception 'retain_for must lie between a second and ten years, and is %', coalesce(enqueue_job.retain_for::text, 'null')
            using errcode = 'invalid_parameter_value';
    elsif not coalesce(enqueue_job.attempts_max between 1 and 20, false) then
        raise exception 'attempts_max must lie between 1 and 20, and is %', coalesce(enqueue_job.attempts_max::text, 'null')
            using errcode = 'invalid_parameter_value';
    elsif not coalesce(enqueue_job.interruptions_max between 1 and 1000, false) then
        raise exception 'interruptions_max must lie between 1 and 1000, and is %', coalesce(enqueue_job.interruptions_max::text, 'null')
            using errcode = 'invalid_parameter_value';
    elsif not coalesce(enqueue_job.attempt_timeout_seconds between 1 and 86400, false) then
        raise exception 'attempt_timeout_seconds must lie between 1 and 86400, and is %', coalesce(enqueue_job.attempt_timeout_seconds::text, 'null')
            using errcode = 'invalid_parameter_value';
    elsif coalesce(jsonb_typeof(metadata), 'object') <> 'object' then
        raise exception 'metadata must be a JSON object' using errcode = 'invalid_parameter_value';
    elsif (select count(*) from jsonb_object_keys(coalesce(metadata, '{}'))) > 50 then
        raise exception 'metadata may have up to 50 keys' using errcode = 'invalid_parameter_value';
    elsif image !~ '^(sha256:)?[0-9a-f]{64}$' then
        raise exception 'an image is named by its SHA-256 in hex, not by %', image using errcode = 'invalid_parameter_value';
    end if;
    -- Counts the job, so that the image stays while the job needs it.
    update images i set jobs = i.jobs + 1, last_used_at = now(), unused_since = null
    where i.owner = enqueue_job.owner and i.sha256 = decode(right(image, 64), 'hex') and i.purged_at is null
    returning i.* into stored;
    if not found then
        raise exception '% has no image %', coalesce(enqueue_job.owner, 'null'), coalesce(image, 'null') using errcode = 'no_data_found',
            hint = 'An image has to be stored before a job can name it: submit it once through POST /v1/jobs.';
    end if;
    insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, image_upload, params, metadata, priority, seq,
                           created_at, run_at, deadline_at, retain_for, attempt_timeout_seconds, attempts_max, interruptions_max)
    values (new_id, case when enqueue_job.run_at > clock_timestamp() then 'scheduled' else 'queued' end::job_state, stored.owner, picked.model_id,
            picked.model_version_id, case when by_alias is null then enqueue_job.model else asked[1] || '@' || by_alias end, stored.sha256, stored.upload,
            checked_params(picked.manifest, coalesce(enqueue_job.params, '{}')), coalesce(enqueue_job.metadata, '{}'), enqueue_job.priority,
            take_place(picked.model_id, enqueue_job.priority::smallint, stored.owner), clock_timestamp(), due, enqueue_job.deadline_at,
            enqueue_job.retain_for, enqueue_job.attempt_timeout_seconds, enqueue_job.attempts_max, enqueue_job.interruptions_max);
    perform wake('darkroom_queued', picked.model_id::text);
    return new_id;
end $$;
comment on function enqueue_job is 'Queues one job in the transaction of the caller. Until the transaction ends, other submits of this image by this owner wait.';
