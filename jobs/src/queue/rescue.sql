-- Takes the jobs of workers whose lease has run out, by the database's clock. Any process may run it, two may at once.
-- Not charged, but bounded, so that an image that kills its workers ends.
with lost as materialized (
    select j.job_id, j.worker_id, j.claimed_at, j.lease_no, j.attempts_started,
           j.cancel_requested, not j.cancel_requested and j.interruptions + 1 < j.interruptions_max as again
    from live_jobs j left join workers w using (worker_id)
    where j.state = 'running' and (w.worker_id is null or w.lease_until < now() or w.ended_at is not null)
    order by j.job_id limit 1000 for no key update of j skip locked
),
back as (
    update live_jobs j set state = 'queued', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = null, claimed_at = null,
        attempt_deadline_at = null, interruptions = j.interruptions + 1, run_at = now()
    from lost l where j.job_id = l.job_id and l.again
),
gone as (
    delete from live_jobs j using lost l where j.job_id = l.job_id and not l.again returning j.*
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device, problem)
    select g.job_id, case when g.cancel_requested then 'canceled' else 'failed' end::job_state, g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no + 1, g.claimed_at,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions + case when g.cancel_requested then 0 else 1 end, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, w.name, w.device,
           case when not g.cancel_requested then $1::jsonb end
    from gone g left join workers w using (worker_id)
),
tried as (
    insert into attempts (job_id, number, lease_no, worker_id, worker, device, started_at, outcome, charged, problem)
    select l.job_id, l.attempts_started, l.lease_no, l.worker_id, w.name, w.device, l.claimed_at,
           case when l.cancel_requested then 'canceled' else 'lost' end, false, case when not l.cancel_requested then $2::jsonb end
    from lost l left join workers w using (worker_id)
)
select job_id from lost
