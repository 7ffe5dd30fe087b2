-- A waiting job ends at once; a running one is asked for, and ends when its worker lets go.
with asked as (
    update live_jobs j set cancel_requested = true, version = j.version + case when j.cancel_requested then 0 else 1 end
    where j.job_id = $1 and j.state = 'running' and ($2::text is null or j.owner = $2)
    returning j.job_id
),
gone as (
    delete from live_jobs j where j.job_id = $1 and j.state in ('queued', 'scheduled') and ($2::text is null or j.owner = $2) returning j.*
),
archived as (
    insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                               deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                               attempts_max, interruptions, interruptions_max, trace_parent, worker, device)
    select g.job_id, 'canceled', g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
           g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, null,
           g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions, g.interruptions_max,
           g.trace_parent, null, null
    from gone g
)
select 'requested' as "outcome!" from asked
union all select 'canceled' from gone
union all select 'was ' || state::text from finished_jobs where job_id = $1 and ($2::text is null or owner = $2)
