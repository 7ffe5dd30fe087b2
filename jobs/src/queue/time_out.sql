-- Takes the jobs whose attempt ran too long, whatever their worker says: charged, with back-off, until the attempts are spent.
-- One whose own deadline has passed meanwhile is of no use any more and ends.
with late as materialized (
    select j.job_id, j.worker_id, j.claimed_at, j.lease_no, j.attempts_started,
           j.cancel_requested, case when j.deadline_at <= now() then $2::jsonb else $1::jsonb end as problem,
           not j.cancel_requested and j.attempts_charged + 1 < j.attempts_max and (j.deadline_at > now()) is not false as again
    from live_jobs j where j.state = 'running' and j.attempt_deadline_at < now()
    order by j.job_id limit 1000 for no key update skip locked
),
back as (
    update live_jobs j set state = 'scheduled', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = null, claimed_at = null,
        attempt_deadline_at = null, attempts_charged = j.attempts_charged + 1, problem = l.problem,
        run_at = now() + least(interval '10 min', interval '1 s' * power(2, least(j.attempts_charged, 10))) * (0.75 + random() / 2)
    from late l where j.job_id = l.job_id and l.again
),
gone as (
    delete from live_jobs j using late l where j.job_id = l.job_id and not l.again returning j.*, l.problem as fault
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device, problem)
    select g.job_id, case when g.cancel_requested then 'canceled' else 'failed' end::job_state, g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no + 1, g.claimed_at,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged + case when g.cancel_requested then 0 else 1 end, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device,
           case when not g.cancel_requested then g.fault end
    from gone g left join workers w using (worker_id)
),
tried as (
    insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged, problem)
    select l.job_id, l.attempts_started, l.lease_no, l.worker_id, w.name, w.device, l.claimed_at,
           case when l.cancel_requested then 'canceled' else 'timed_out' end, not l.cancel_requested,
           case when not l.cancel_requested then l.problem end
    from late l left join workers w using (worker_id)
)
select job_id from late
