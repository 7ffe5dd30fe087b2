-- Our trouble: the attempt is charged and the job backs off, 1 s doubling to 10 min with jitter, until its attempts are spent.
-- Rows are found as in complete.sql.
with held as materialized (
    select j.*, o.fault, j.attempts_charged + 1 < j.attempts_max and not j.cancel_requested as again
    from (select * from unnest($1::uuid[], $2::int[], $3::jsonb[]) as o(job_id, lease_no, fault) order by job_id) o
    cross join lateral (
        select l.ctid as tid, l.job_id, l.worker_id, l.claimed_at, l.lease_no, l.attempts_started, l.attempts_charged, l.attempts_max,
               l.cancel_requested
        from live_jobs l where l.job_id = o.job_id and l.lease_no = o.lease_no offset 0 for update
    ) j
),
back as (
    update live_jobs j set state = 'scheduled', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = null, claimed_at = null,
        attempt_deadline_at = null, attempts_charged = j.attempts_charged + 1, problem = h.fault,
        run_at = now() + least(interval '10 min', interval '1 s' * power(2, least(j.attempts_charged, 10))) * (0.75 + random() / 2)
    from held h where j.ctid = h.tid and h.again
    returning j.job_id
),
gone as (
    delete from live_jobs j using held h where j.ctid = h.tid and not h.again returning j.*, h.fault
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device, problem)
    select g.job_id, case when g.cancel_requested then 'canceled' else 'failed' end::job_state, g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, g.claimed_at,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged + case when g.cancel_requested then 0 else 1 end, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device,
           case when not g.cancel_requested then g.fault end
    from gone g left join workers w using (worker_id)
),
-- All that are held, but for those that changed while this statement waited for their lock: it does not see them as they are.
moved as (
    select job_id from back union all select job_id from gone
),
tried as (
    insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged, problem)
    select h.job_id, h.attempts_started, h.lease_no, h.worker_id, w.name, w.device, h.claimed_at,
           case when h.cancel_requested then 'canceled' when h.again then 'retried' else 'failed' end, not h.cancel_requested, h.fault
    from held h join moved using (job_id) left join workers w using (worker_id)
)
select job_id as "job_id!" from moved
