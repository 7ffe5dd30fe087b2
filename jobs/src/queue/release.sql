-- The machine leaves: back at once in the old place, nothing charged. A job whose cancel was asked for ends here.
-- Rows are found as in complete.sql.
with held as materialized (
    select j.*
    from (select * from unnest($1::uuid[], $2::int[]) as o(job_id, lease_no) order by job_id) o
    cross join lateral (
        select l.ctid as tid, l.job_id, l.worker_id, l.claimed_at, l.lease_no, l.attempts_started, l.cancel_requested
        from live_jobs l where l.job_id = o.job_id and l.lease_no = o.lease_no offset 0 for update
    ) j
),
back as (
    update live_jobs j set state = 'queued', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = null, claimed_at = null,
        attempt_deadline_at = null, run_at = now()
    from held h where j.ctid = h.tid and not h.cancel_requested
    returning j.job_id
),
gone as (
    delete from live_jobs j using held h where j.ctid = h.tid and h.cancel_requested returning j.*
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device)
    select g.job_id, 'canceled', g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, g.claimed_at,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device
    from gone g left join workers w using (worker_id)
),
-- As in retry.sql.
moved as (
    select job_id from back union all select job_id from gone
),
tried as (
    insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged)
    select h.job_id, h.attempts_started, h.lease_no, h.worker_id, w.name, w.device, h.claimed_at,
           case when h.cancel_requested then 'canceled' else 'released' end, false
    from held h join moved using (job_id) left join workers w using (worker_id)
)
select job_id as "job_id!" from moved
