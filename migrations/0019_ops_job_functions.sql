-- Contract: what an operator does to jobs.
-- Each function runs with the rights of the schema's owner and a fixed search_path. It waits at most five seconds for a lock.
-- It writes one row of ops.audit. Where it cannot do what was asked, it raises, with the next step as a hint.

create function refused(job uuid, outcome text) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    id text := ops.job_name(job);
begin
    if outcome = 'not found' then
        raise exception 'there is no job %', coalesce(id, 'null') using errcode = 'no_data_found', hint = 'Its tombstone may have been pruned; is the id whole?';
    elsif outcome = 'not terminal' then
        raise exception 'job % has not ended', id using errcode = 'object_not_in_prerequisite_state',
            hint = format('select * from ops.explain(%L); or end it first: select ops.cancel(%L);', id, id);
    elsif outcome = 'running' then
        raise exception 'job % is in a worker''s hands already', id using errcode = 'object_not_in_prerequisite_state', hint = format('select * from ops.explain(%L);', id);
    elsif outcome = 'input purged' then
        raise exception 'job % cannot run again: its input was deleted', id using errcode = 'object_not_in_prerequisite_state', hint = 'Submit the image anew.';
    elsif outcome = 'no version' then
        raise exception 'job % cannot run on the current version: its alias means no version now', id using errcode = 'object_not_in_prerequisite_state',
            hint = 'select name, version, aliases from ops.models where retired_at is null and state = ''ready'';';
    elsif outcome = 'params do not fit' then
        raise exception 'job % cannot run on the current version: its parameters do not fit that version', id
            using errcode = 'object_not_in_prerequisite_state', hint = 'Submit the image anew.';
    end if;
    raise exception 'job % has %: that is final', id, replace(outcome, 'was ', '') using errcode = 'object_not_in_prerequisite_state',
        hint = format('select status, result, problem from ops.jobs where job_id = %L;', job);
end $$;
comment on function refused is 'Raises why a verb did nothing to a job.';

create function ops.cancel(job uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := replace(cancel_job(job, null), 'was canceled', 'canceled');
begin
    if outcome not in ('canceled', 'requested') then
        perform refused(job, outcome);
    end if;
    return audited('cancel', ops.job_name(job), '{}', outcome);
end $$;
comment on function ops.cancel(uuid) is 'Cancels a job. Answers canceled if the job waited, or requested if it runs: then its worker ends it. A second call changes nothing.';

create function ops.retry(job uuid, current_model boolean default false) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := retry_job(job, null, current_model);
begin
    if outcome <> 'queued' then
        perform refused(job, outcome);
    end if;
    return audited('retry', ops.job_name(job), case when current_model then '{"current_model": true}' else '{}' end::jsonb, outcome);
end $$;
comment on function ops.retry(uuid, boolean) is 'Queues a failed, canceled or expired job again, at the end of its owner''s lane. The job keeps its id and history, and gets a new budget of attempts. With current_model it runs on the version that its alias means now.';

create function ops.retry_failed(model text, code text default null, since timestamptz default now() - interval '1 day', max int default 1000,
                                 current_model boolean default false) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    retried bigint := 0; failed uuid;
begin
    if not exists (select from models m where m.name = retry_failed.model) then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    elsif max is null or max not between 1 and 10000 then
        raise exception 'max must lie between 1 and 10000, not be %', coalesce(max::text, 'null') using errcode = 'invalid_parameter_value', hint = 'Call it again until it answers 0.';
    end if;
    for failed in
        -- Picks the oldest jobs, but retries them in the order in which submits lock lanes.
        select o.job_id from (
            select f.job_id, f.priority, f.owner from finished_jobs f join models m using (model_id)
            where f.state = 'failed' and f.purged_at is null and m.name = retry_failed.model and f.finished_at >= retry_failed.since
              and (retry_failed.code is null or f.problem ->> 'code' = retry_failed.code)
            order by f.finished_at limit retry_failed.max) o
        order by o.priority, o.owner, o.job_id
    loop
        if retry_job(failed, null, current_model) = 'queued' then
            retried := retried + 1;
        end if;
    end loop;
    perform audited('retry_failed', model, jsonb_build_object('code', code, 'since', since, 'max', max)
        || case when current_model then '{"current_model": true}' else '{}' end::jsonb, retried || ' queued');
    return retried;
end $$;
comment on function ops.retry_failed is 'Retries jobs of a model that failed at or after since, with this code or (by default) any code: at most max jobs, oldest first. Answers how many. With current_model they run on the version that their alias means now; jobs whose parameters do not fit stay failed.';

create function ops.set_priority(job uuid, priority int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := set_job_priority(job, priority);
begin
    if outcome <> 'set' then
        perform refused(job, outcome);
    end if;
    return audited('set_priority', ops.job_name(job), jsonb_build_object('priority', priority), outcome);
end $$;
comment on function ops.set_priority(uuid, int) is 'Moves a waiting job to another priority, from -100 to 100, at the end of its owner''s lane there.';

create function ops.purge(job uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := purge_job(job, null);
begin
    if outcome <> 'purged' then
        perform refused(job, outcome);
    end if;
    return audited('purge', ops.job_name(job), '{}', outcome);
end $$;
comment on function ops.purge(uuid) is 'Deletes result, parameters, metadata and details of problems of a job that ended; the row stays as a tombstone. It cannot be undone.';

create function ops.explain(job uuid)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    return query select * from explain_job(job, null);
    if not found then
        perform refused(job, 'not found');
    end if;
end $$;
comment on function ops.explain(uuid) is 'Why a job is where it is: jobs ahead of it (up to 10000), workers, rate, estimated start, and what blocks it, in words.';

create function ops.enqueue(model text, owner text, image text, params jsonb default '{}', metadata jsonb default '{}', priority int default 0,
                            run_at timestamptz default null, deadline timestamptz default null, retain_for interval default '30 days',
                            attempts_max int default 3, interruptions_max int default 5, attempt_timeout_seconds int default 120) returns uuid
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    job uuid := enqueue_job(model, owner, image, params, metadata, priority, run_at, deadline, retain_for, attempts_max, interruptions_max, attempt_timeout_seconds);
begin
    perform audited('enqueue', ops.job_name(job), jsonb_build_object('model', model, 'owner', owner), 'queued');
    return job;
end $$;
comment on function ops.enqueue is 'Queues a job over an image that its owner has stored. The job exists once you commit. Keep the transaction short: until it ends, other submits of this image by this owner wait. Your commit notifies workers under one lock of the whole database: for thousands of jobs a second use REST.';

-- The functions above, by the id that clients see.
create function ops.cancel(job text) returns text language sql as $$ select ops.cancel(ops.job_id(job)) $$;
create function ops.retry(job text, current_model boolean default false) returns text language sql as $$ select ops.retry(ops.job_id(job), current_model) $$;
create function ops.set_priority(job text, priority int) returns text language sql as $$ select ops.set_priority(ops.job_id(job), priority) $$;
create function ops.purge(job text) returns text language sql as $$ select ops.purge(ops.job_id(job)) $$;
create function ops.explain(job text)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language sql stable as $$ select * from ops.explain(ops.job_id(job)) $$;
comment on function ops.cancel(text) is 'ops.cancel by an id as clients see it: job_ and 32 hex digits.';
comment on function ops.retry(text, boolean) is 'ops.retry by an id as clients see it.';
comment on function ops.set_priority(text, int) is 'ops.set_priority by an id as clients see it.';
comment on function ops.purge(text) is 'ops.purge by an id as clients see it.';
comment on function ops.explain(text) is 'ops.explain by an id as clients see it.';
