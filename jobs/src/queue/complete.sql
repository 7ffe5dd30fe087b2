-- Fenced by the primary key and lease_no alone: a job that was taken away has another number. Each row is looked up by itself
-- (hence `offset 0`), locked, and then named by its place: a plan made over an empty table cannot go wrong by that.
with outcome as materialized (
    select o.*, j.tid
    from (select * from unnest($1::uuid[], $2::int[], $3::jsonb[], $4::jsonb[], $5::smallint[], $6::smallint[])
              as o(job_id, lease_no, result, timings, forward_batch_size, forward_batch_position) order by job_id) o
    cross join lateral (select l.ctid as tid from live_jobs l where l.job_id = o.job_id and l.lease_no = o.lease_no offset 0 for update) j
),
gone as (
    delete from live_jobs j using outcome o where j.ctid = o.tid
    returning j.*, o.result, o.timings, o.forward_batch_size, o.forward_batch_position
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device, result, timings, forward_batch_size,
                               forward_batch_position)
    select g.job_id, case when g.cancel_requested then 'canceled' else 'succeeded' end::job_state, g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, g.claimed_at,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged + case when g.cancel_requested then 0 else 1 end, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device,
           case when not g.cancel_requested then g.result end,
           g.timings,
           g.forward_batch_size, g.forward_batch_position
    from gone g left join workers w using (worker_id)
),
-- A cancel that was acknowledged never becomes a success.
canceled as (
    insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged)
    select g.job_id, g.attempts_started, g.lease_no, g.worker_id, w.name, w.device, g.claimed_at, 'canceled', false
    from gone g left join workers w using (worker_id) where g.cancel_requested
)
select job_id from gone
