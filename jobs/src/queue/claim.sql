-- Highest priority first, then the fair order; rows that another worker is taking are passed over.
with picked as materialized (
    select candidate.job_id
    from models m
    cross join lateral (
        select j.job_id, j.priority, j.seq from live_jobs j
        where j.state = 'queued' and j.model_id = m.model_id
        order by j.priority desc, j.seq limit $3 for no key update skip locked
    ) candidate
    where m.paused_at is null and (cardinality($2::text[]) = 0 or m.name = any($2))
    order by candidate.priority desc, candidate.seq limit $3
)
update live_jobs j
set state = 'running', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = $1, claimed_at = now(),
    attempt_deadline_at = now() + make_interval(secs => j.attempt_timeout_seconds), attempts_started = j.attempts_started + 1
from picked where j.job_id = picked.job_id
    -- A worker whose lease has run out gets nothing.
    and exists (select 1 from workers w where w.worker_id = $1 and w.lease_until > now() and w.ended_at is null)
returning j.job_id, j.lease_no, j.owner, j.model_version_id, j.image_sha256, j.params, j.priority, j.seq, j.interruptions,
          j.attempts_started, j.attempt_timeout_seconds, j.trace_parent,
          (extract(epoch from now() - j.run_at) * 1000)::float8 as "queue_ms!"
