-- Ends the jobs whose deadline passed before a worker began.
with late as materialized (
    select j.job_id from live_jobs j
    where j.state in ('queued', 'scheduled') and j.deadline_at < now()
    order by j.job_id limit 1000 for no key update skip locked
),
gone as (
    delete from live_jobs j using late l where j.job_id = l.job_id returning j.*
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent,
                               batch_id, batch_line, custom_id, webhook_url, worker, device, problem)
    select g.job_id, 'expired', g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, null,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, null, null, $1::jsonb
    from gone g
)
select job_id from gone
