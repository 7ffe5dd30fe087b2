-- How an attempt ends: the one function that takes a job from its worker or out of the queue. And retry_job, the way back.
-- Workers settle the attempts that they ended. Rescue and time_out settle attempts that their worker did not end. Expire and
-- cancel_job settle jobs that wait.

-- Whether a job returns to the queue after an outcome of its attempt. Other outcomes end the job.
create function goes_back(outcome text, job live_jobs) returns boolean
language sql stable parallel safe as $$
    select case when job.cancel_requested then false
                when outcome in ('released', 'postponed') then true
                when outcome = 'retried' then job.attempts_charged + 1 < job.attempts_max
                when outcome = 'timed_out' then job.attempts_charged + 1 < job.attempts_max and (job.deadline_at > now()) is not false
                when outcome = 'lost' then job.interruptions + 1 < job.interruptions_max
                else false end
$$;
comment on function goes_back is 'Whether a job returns to the queue after an outcome of its attempt.';

-- Neither may fail for any job: a failure would keep the job from ending. A timing that is no number counts as 0, a huge one as a day.
create function infer_micros(timings jsonb, forward_batch_size smallint) returns bigint language sql immutable parallel safe as $$
    select case when jsonb_typeof(timings -> 'infer') = 'number'
                then (least(greatest((timings -> 'infer')::numeric, 0), 86400000)::float8 * 1000 / greatest(forward_batch_size, 1))::bigint else 0 end
$$;
comment on function infer_micros is 'A job''s share of its forward pass, in microseconds.';
create function micros(span interval) returns bigint language sql immutable parallel safe
    as $$ select (extract(epoch from span) * 1000000)::bigint $$;
comment on function micros is 'The microseconds of a time span.';

-- Settles each (job_id, lease_no) by its outcome and returns the jobs that the leases still held. The arguments come in the order
-- of the ids, so that two calls lock rows in one order.
--
-- | outcome   | the job                                                          | the attempt           |
-- |-----------|------------------------------------------------------------------|-----------------------|
-- | succeeded | ends with `result` and `input_warnings`                          | charged, kept in the job's row |
-- | failed    | ends with `problem`                                              | charged               |
-- | retried   | backs off (1 s, doubling to 10 min, with jitter), or ends with `problem` when its attempts are used up | charged |
-- | timed_out | as retried; ends too when its own deadline has passed            | charged               |
-- | postponed | backs off, longer each time: the store does not have the image | not charged |
-- | released  | returns to its place in the queue                                | not charged           |
-- | lost      | returns to the queue, or ends with `last_problem` when its interruptions are used up | not charged, counted as an interruption |
-- | expired   | waits no longer: ends with `problem`                             | none                  |
-- | image_lost | waits no longer: fails with `problem`                           | none                  |
-- | canceled  | waits no longer: ends                                            | none                  |
--
-- `input_warnings` has one text for each job: its codes, joined by commas, or null. The array is empty if no job has any.
--
-- A running job whose cancel was requested ends as canceled under every outcome, and its attempt is not charged.
create function settle(
    job_ids uuid[], lease_nos int[], outcomes text[], problems jsonb[] default '{}', last_problems jsonb[] default '{}',
    results jsonb[] default '{}', timings jsonb[] default '{}', forward_batch_sizes smallint[] default '{}', forward_batch_positions smallint[] default '{}',
    input_warnings text[] default '{}')
returns setof uuid
language plpgsql security definer
set search_path = pg_catalog, public, pg_temp
-- One plan for every call: it finds rows by their keys, also when it was made over an empty table.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Plans that avoid a scan look costly to PostgreSQL 15. It would compile them: 100 ms a call.
set jit = off
as $$
declare
    settled int := 0; part int;
begin
    -- Two statements below change rows. If both may do so in this call, all its rows are locked first, in the order of the ids.
    if outcomes && array['released', 'retried', 'postponed', 'timed_out', 'lost'] then
        perform from (select * from unnest(job_ids, lease_nos) as a(id, held_lease_no) order by id) a
        cross join lateral (select from live_jobs l where l.job_id = a.id and l.lease_no = a.held_lease_no offset 0 for update) j;
    end if;
    -- A statement does not see what became of a row whose lock it had to wait for (a cancel of the same job), and leaves the row alone.
    -- The second look sees the row as it is now. Nothing is left for a lease that is gone.
    for look in 1..2 loop
        return query
        -- Fenced by the primary key and lease_no alone: a job that was taken away has another number. Each row is found by its key
        -- (`offset 0` keeps the planner from other ways), and then named by its place.
        with held as materialized (
            select a.*, j.tid, j.worker_id, j.claimed_at, a.outcome in ('retried', 'timed_out') as is_charged,
                   a.outcome in ('retried', 'timed_out', 'postponed') as backs_off
            from unnest(job_ids, lease_nos, outcomes, problems) as a(id, held_lease_no, outcome, problem)
            cross join lateral (
                select l.ctid as tid, l.worker_id, l.claimed_at from live_jobs l where l.job_id = a.id and l.lease_no = a.held_lease_no offset 0
            ) j
            where a.outcome in ('released', 'retried', 'postponed', 'timed_out', 'lost')
        ),
        back as (
            update live_jobs j
            set state = case when h.backs_off then 'scheduled'::job_state else 'queued'::job_state end,
                version = j.version + 1, lease_no = j.lease_no + 1, worker_id = null, claimed_at = null, attempt_deadline_at = null,
                attempts_charged = j.attempts_charged + h.is_charged::int, interruptions = j.interruptions + (h.outcome = 'lost')::int,
                problem = case when h.backs_off then h.problem else j.problem end,
                run_at = case when h.backs_off then
                                  now() + least(interval '10 min', interval '1 s' * power(2, least(
                                      case when h.is_charged then j.attempts_charged
                                           -- Not each start: a lost worker or a release says nothing about the image.
                                           else (select count(*) from attempts t where t.job_id = j.job_id and t.outcome = 'postponed') end,
                                      10))) * (0.75 + random() / 2)
                              else now() end
            from held h where j.ctid = h.tid and goes_back(h.outcome, j)
            returning j.job_id, h.outcome, h.is_charged, h.problem, h.held_lease_no, h.worker_id, h.claimed_at, j.attempts_started
        ),
        -- The columns that most of the statements below read come first: a row is read only as far as needed.
        gone as (
            delete from live_jobs j
            using unnest(job_ids, lease_nos, outcomes, problems, last_problems, results, settle.timings, forward_batch_sizes, forward_batch_positions,
                         settle.input_warnings)
                  as a(id, held_lease_no, outcome, problem, last_problem, result, timings, forward_batch_size, forward_batch_position, input_warnings)
            cross join lateral (
                select l.ctid as tid from live_jobs l where l.job_id = a.id and l.lease_no = a.held_lease_no offset 0
            ) h
            where j.ctid = h.tid and not goes_back(a.outcome, j)
            returning
                j.job_id, j.worker_id, j.owner, j.webhook_url, j.claimed_at, a.outcome, j.cancel_requested,
                case when j.cancel_requested or a.outcome = 'canceled' then 'canceled'::job_state
                     when a.outcome = 'succeeded' then 'succeeded'::job_state
                     when a.outcome = 'expired' then 'expired'::job_state
                     else 'failed'::job_state end as ended_as,
                a.outcome in ('succeeded', 'failed', 'retried', 'timed_out') and not j.cancel_requested as is_charged,
                a.outcome = 'lost' and not j.cancel_requested as is_interrupted,
                a.problem, a.last_problem, a.result, a.timings, a.forward_batch_size, a.forward_batch_position, a.input_warnings,
                j.version, j.model_id, j.model_version_id, j.model_ref, j.image_sha256, j.params, j.metadata, j.priority, j.created_at, j.run_at,
                j.deadline_at, j.retain_for, j.lease_no, j.attempt_timeout_seconds, j.attempts_started, j.attempts_charged, j.attempts_max,
                j.interruptions, j.interruptions_max, j.trace_parent, j.batch_id, j.batch_line, j.custom_id
        ),
        -- Most calls settle jobs of one worker: its row is looked up once, not for each job.
        takers as materialized (
            select w.worker_id, w.name, w.device from workers w where w.worker_id = any(array(select distinct g.worker_id from gone g))
        ),
        -- What a job keeps when it ends: this and `gone` are the only lists of these columns. retry_job has the way back.
        archived as (
            insert into finished_jobs (
                job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged, attempts_max,
                interruptions, interruptions_max, trace_parent, batch_id, batch_line, custom_id, webhook_url, worker, device, problem, result,
                input_warnings, timings, forward_batch_size, forward_batch_position)
            select
                g.job_id, g.ended_as, g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata, g.priority, g.created_at, g.run_at,
                g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no + (g.outcome in ('lost', 'timed_out'))::int, g.claimed_at, g.attempt_timeout_seconds, g.attempts_started,
                g.attempts_charged + g.is_charged::int, g.attempts_max,
                g.interruptions + g.is_interrupted::int, g.interruptions_max, g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device,
                case when not g.cancel_requested then coalesce(g.last_problem, g.problem) end,
                case when g.ended_as = 'succeeded' then g.result end,
                string_to_array(g.input_warnings, ','), g.timings, g.forward_batch_size, g.forward_batch_position
            from gone g left join takers w using (worker_id)
        ),
        -- An attempt that succeeded stands in the job's own row.
        tried as (
            insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged, problem)
            select t.job_id, t.attempts_started, t.lease_no, t.worker_id, w.name, w.device, t.claimed_at, t.outcome, t.is_charged, t.problem
            from (
                select b.job_id, b.attempts_started, b.held_lease_no as lease_no, b.worker_id, b.claimed_at, b.outcome, b.is_charged, b.problem from back b
                union all
                select g.job_id, g.attempts_started, g.lease_no, g.worker_id, g.claimed_at,
                       case when g.cancel_requested then 'canceled' when g.outcome = 'retried' then 'failed' else g.outcome end,
                       g.is_charged, case when not g.cancel_requested or g.outcome in ('failed', 'retried') then g.problem end
                from gone g
                where g.claimed_at is not null and (g.outcome <> 'succeeded' or g.cancel_requested)
            ) t left join workers w using (worker_id)
        ),
        -- What usage, errors and latency are counted from (0017_ops_history.sql).
        counted as (
            insert into ended_counts (owner, model_id, state, code, jobs, in_time, infer_micros, attempt_micros, images, example)
            select g.owner, g.model_id, g.ended_as,
                   case when g.ended_as in ('failed', 'expired') then coalesce(g.last_problem, g.problem) ->> 'code' end as code, count(*),
                   count(*) filter (where g.ended_as = 'succeeded' and jsonb_typeof(g.timings) = 'object' and g.created_at >= now() - interval '2 days'),
                   sum(infer_micros(g.timings, g.forward_batch_size)), coalesce(sum(micros(now() - g.claimed_at)), 0), array_agg(g.image_sha256),
                   max(g.job_id::text) filter (where g.ended_as in ('failed', 'expired'))::uuid
            from gone g group by g.owner, g.model_id, g.ended_as, 4
        ),
        -- One event for all jobs of an owner that end alike.
        published as (
            insert into events (owner, type, job_ids)
            select g.owner, 'job.' || g.ended_as, array_agg(g.job_id) from gone g group by g.owner, g.ended_as
        ),
        notified as (
            insert into webhook_deliveries (owner, endpoint_id, url, type, job_id)
            select g.owner, r.endpoint_id, r.url, 'job.' || g.ended_as, g.job_id
            from gone g cross join lateral (
                select null::uuid as endpoint_id, g.webhook_url as url where g.webhook_url is not null
                union all
                select w.endpoint_id, w.url from webhook_endpoints w
                where w.owner = g.owner and w.disabled_at is null and 'job.' || g.ended_as = any(w.events)
            ) r
            -- Without a receiver this is all that webhooks cost.
            where g.webhook_url is not null or exists (select from webhook_endpoints w where w.disabled_at is null)
        )
        select b.job_id from back b union all select g.job_id from gone g;
        get diagnostics part = row_count;
        settled := settled + part;
        exit when settled >= cardinality(job_ids);
    end loop;
end $$;
comment on function settle is 'Settles attempts by their outcome, fenced by lease_no, and returns the jobs that the leases still held. The only way out of live_jobs.';

-- The way back: every column that settle archives and a live job needs. It looks again after a lost race, as all verbs do
-- (0011_job_verbs.sql).
--
-- With `current_model` the job runs on the version that its alias means now. A job that named a version or a digest takes the
-- version of the alias `default`. The job's parameters must fit that version.
create function retry_job(job uuid, owner text, current_model boolean default false) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    ended finished_jobs; was record; unfit text;
    new_version bigint; new_ref text; new_manifest jsonb; new_params jsonb;
begin
    for look in 1..4 loop
        -- Locks the image. A statement that deletes the image waits, and then sees that this live job needs it; or it came
        -- first, and the check below sees the deletion. The row of the job is locked first: a purge locks in this order too.
        perform from finished_jobs f where f.job_id = retry_job.job for update;
        perform from images i
        where (i.owner, i.sha256) in (select f.owner, f.image_sha256 from finished_jobs f where f.job_id = retry_job.job)
        for no key update;
        if current_model then
            unfit := null;
            select v.model_version_id, m.name || '@' || a.alias, v.manifest, f.params into new_version, new_ref, new_manifest, new_params
            from finished_jobs f
            join models m using (model_id)
            join model_aliases a on a.model_id = m.model_id
                                and a.alias = coalesce(substring(f.model_ref from '@([a-z][a-z0-9._-]*)$'), 'default')
            join model_versions v on v.model_version_id = a.model_version_id
            where f.job_id = retry_job.job and v.retired_at is null and v.state = 'ready';
            if not found then
                unfit := 'no version';
            else
                begin
                    new_params := checked_params(new_manifest, new_params);
                exception when invalid_parameter_value then
                    unfit := 'params do not fit';
                end;
            end if;
        end if;
        -- Of two retries at once, or a retry and a purge, the second waits and then finds no such row.
        delete from finished_jobs f
        where f.job_id = retry_job.job and unfit is null and (retry_job.owner is null or f.owner = retry_job.owner)
          and f.state in ('failed', 'canceled', 'expired') and f.purged_at is null
          and exists (select from images i where i.owner = f.owner and i.sha256 = f.image_sha256 and i.purged_at is null)
        returning f.* into ended;
        if found then
            -- It counts when it ends again.
            insert into ended_counts (owner, model_id, at, state, code, jobs, in_time, infer_micros, attempt_micros, image_bytes)
            select ended.owner, ended.model_id, ended.finished_at, ended.state,
                   case when ended.state in ('failed', 'expired') then ended.problem ->> 'code' end, -1, 0,
                   -infer_micros(ended.timings, ended.forward_batch_size), -coalesce(micros(ended.finished_at - ended.claimed_at), 0), -i.bytes
            from images i where i.owner = ended.owner and i.sha256 = ended.image_sha256;
            -- The verb that ended the job wrote its last attempt to `attempts`. The budget of charged attempts starts anew.
            -- The budget of interruptions does not: a job that used it up gets one more try, and stays a suspect that a
            -- worker runs alone.
            insert into live_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, image_upload,
                                   params, metadata, priority, seq, created_at, run_at, deadline_at, retain_for, lease_no,
                                   attempt_timeout_seconds, attempts_started, attempts_charged, attempts_max,
                                   interruptions, interruptions_max, trace_parent,
                                   batch_id, batch_line, custom_id, webhook_url)
            select ended.job_id, 'queued', ended.version + 1, ended.owner, ended.model_id, coalesce(new_version, ended.model_version_id),
                   coalesce(new_ref, ended.model_ref), ended.image_sha256, i.upload, coalesce(new_params, ended.params), ended.metadata, ended.priority,
                   take_place(ended.model_id, ended.priority, ended.owner), ended.created_at, now(),
                   case when ended.deadline_at > now() then ended.deadline_at end, ended.retain_for, ended.lease_no + 1,
                   ended.attempt_timeout_seconds, ended.attempts_started, 0, ended.attempts_max,
                   greatest(least(ended.interruptions, ended.interruptions_max - 1), 0), ended.interruptions_max, ended.trace_parent,
                   ended.batch_id, ended.batch_line, ended.custom_id, ended.webhook_url
            from images i where i.owner = ended.owner and i.sha256 = ended.image_sha256;
            if ended.batch_id is not null then
                -- Waits for a finish_batch that runs now, so that the next statement sees what finish_batch wrote.
                perform from batches g where g.batch_id = ended.batch_id for no key update;
                update batches g
                set finished_at = null, cancel_requested_at = null, succeeded = null, failed = null, canceled = null, expired = null
                where g.batch_id = ended.batch_id and g.finished_at is not null;
            end if;
            perform wake('darkroom_queued', ended.model_id::text), wake('darkroom_changed', replace(job::text, '-', ''));
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
            elsif unfit is not null then
                return unfit;
            end if;
        elsif exists (select from live_jobs j where j.job_id = retry_job.job and (retry_job.owner is null or j.owner = retry_job.owner)) then
            return 'not terminal';
        end if;
    end loop;
    return 'not found';
end $$;
comment on function retry_job is 'Answers queued, succeeded, input purged, no version, params do not fit, not terminal or not found. A job that failed, expired or was canceled goes back to the queue under its id and keeps its history.';
