-- What REST refuses, `ops.enqueue` refuses: a time that no program can read, or a retention that the end of the job cannot be
-- reckoned with, stood in the way of everybody's statements. And a retry holds the image that it is about to need.

create or replace function enqueue_job(model text, owner text, image text, params jsonb, metadata jsonb, priority int, run_at timestamptz, deadline_at timestamptz,
                            retain_for interval, attempts_max int, interruptions_max int, attempt_timeout_seconds int) returns uuid
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    asked    text[] := regexp_match(enqueue_job.model, '^([a-z0-9][a-z0-9._-]*)(?:@sha256:([0-9a-f]{64})|@([a-z][a-z0-9._-]*)|:(\d{1,9}))?$');
    by_alias text := case when asked[2] is null and asked[4] is null then coalesce(asked[3], 'default') end;
    picked model_versions; stored images; new_id uuid := new_job_id(); due timestamptz := greatest(enqueue_job.run_at, clock_timestamp());
begin
    select v.* into picked from model_versions v join models m using (model_id)
    where m.name = asked[1] and v.retired_at is null
      and (asked[2] is null or v.digest = decode(asked[2], 'hex')) and (asked[4] is null or v.version = asked[4]::int)
      and (by_alias is null or exists (select from model_aliases a where a.model_version_id = v.model_version_id and a.alias = by_alias));
    if not found then
        raise exception 'no model %', coalesce(enqueue_job.model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version, aliases from ops.models where retired_at is null;';
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
    -- Counted, so that it stays for as long as the job needs it.
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
    perform pg_notify('darkroom_queued', picked.model_id::text);
    return new_id;
end $$;

-- As in 0011, but for the image.
create or replace function retry_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    ended finished_jobs; was record;
begin
    for look in 1..4 loop
        -- Whoever deletes the image waits until the job stands there as one that needs it, or has deleted it and is seen below.
        -- The job's row first, as a purge of it has it.
        perform from finished_jobs f where f.job_id = retry_job.job for update;
        perform from images i
        where (i.owner, i.sha256) in (select f.owner, f.image_sha256 from finished_jobs f where f.job_id = retry_job.job)
        for no key update;
        -- Of two retries at once, or a retry and a purge, the second waits here and then finds no such row.
        delete from finished_jobs f
        where f.job_id = retry_job.job and (retry_job.owner is null or f.owner = retry_job.owner)
          and f.state in ('failed', 'canceled', 'expired') and f.purged_at is null
          and exists (select from images i where i.owner = f.owner and i.sha256 = f.image_sha256 and i.purged_at is null)
        returning f.* into ended;
        if found then
            -- Every ended attempt stands in attempts already: the verb that ended the job wrote it there. attempts_max
            -- bounds the charged attempts from now on. Lost workers are not forgiven: a job that used up its interruptions
            -- gets one more, and stays a suspect that is tried alone.
            insert into live_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, image_upload,
                                   params, metadata, priority, seq, created_at, run_at, deadline_at, retain_for, lease_no,
                                   attempt_timeout_seconds, attempts_started, attempts_charged, attempts_max,
                                   interruptions, interruptions_max, trace_parent,
                                   batch_id, batch_line, custom_id, webhook_url)
            select ended.job_id, 'queued', ended.version + 1, ended.owner, ended.model_id, ended.model_version_id, ended.model_ref,
                   ended.image_sha256, i.upload, ended.params, ended.metadata, ended.priority,
                   take_place(ended.model_id, ended.priority, ended.owner), ended.created_at, now(),
                   case when ended.deadline_at > now() then ended.deadline_at end, ended.retain_for, ended.lease_no + 1,
                   ended.attempt_timeout_seconds, ended.attempts_started, 0, ended.attempts_max,
                   greatest(least(ended.interruptions, ended.interruptions_max - 1), 0), ended.interruptions_max, ended.trace_parent,
                   ended.batch_id, ended.batch_line, ended.custom_id, ended.webhook_url
            from images i where i.owner = ended.owner and i.sha256 = ended.image_sha256;
            if ended.batch_id is not null then
                -- Waits for a finish_batch under way, so that the next statement sees what it wrote.
                perform from batches g where g.batch_id = ended.batch_id for no key update;
                update batches g
                set finished_at = null, cancel_requested_at = null, succeeded = null, failed = null, canceled = null, expired = null
                where g.batch_id = ended.batch_id and g.finished_at is not null;
            end if;
            perform pg_notify('darkroom_queued', ended.model_id::text), pg_notify('darkroom_changed', replace(job::text, '-', ''));
            return 'queued';
        end if;
        select f.state, f.purged_at is not null or not exists (
                   select from images i where i.owner = f.owner and i.sha256 = f.image_sha256 and i.purged_at is null) as without_input
        into was from finished_jobs f where f.job_id = retry_job.job and (retry_job.owner is null or f.owner = retry_job.owner);
        if found then
            if was.state = 'succeeded' then
                return 'succeeded';
            elsif was.without_input then
                return 'input purged';
            end if;
        elsif exists (select from live_jobs j where j.job_id = retry_job.job and (retry_job.owner is null or j.owner = retry_job.owner)) then
            return 'not terminal';
        end if;
    end loop;
    return 'not found';
end $$;
