-- Highest priority first, but none above $8, then the fair order; rows that another worker is taking are passed over.
-- A stretch is a part of a model's order: a lane from its low-water mark on, or what lies between two such lanes. Without any,
-- the whole order.
with picked as materialized (
    select candidate.tid
    from models m
    left join unnest($4::bigint[], $5::smallint[], $6::smallint[], $7::bigint[]) as stretch(model_id, highest, lowest, mark)
        on stretch.model_id = m.model_id
    cross join lateral (
        select j.ctid as tid, j.priority, j.seq from live_jobs j
        where j.state = 'queued' and j.model_id = m.model_id
          and j.priority <= least(coalesce(stretch.highest, 32767::smallint), $8::smallint) and j.priority >= coalesce(stretch.lowest, (-32768)::smallint)
          and j.seq > coalesce(stretch.mark, -1)
          -- Of no use any more: `expire` ends it.
          and (j.deadline_at > now()) is not false
        order by j.priority desc, j.seq limit $3 for no key update skip locked
    ) candidate
    where m.paused_at is null and (cardinality($2::text[]) = 0 or m.name = any($2))
    order by candidate.priority desc, candidate.seq limit $3
),
claimed as (
    -- By ctid: the rows are locked, so it holds; and a plan made over an empty table cannot go wrong by it.
    update live_jobs j
    set state = 'running', version = j.version + 1, lease_no = j.lease_no + 1, worker_id = $1, claimed_at = now(),
        attempt_deadline_at = least(now() + make_interval(secs => j.attempt_timeout_seconds), j.deadline_at), attempts_started = j.attempts_started + 1
    from picked where j.ctid = picked.tid
        -- A worker whose lease has run out, or that was asked to leave, gets nothing.
        and exists (select 1 from workers w where w.worker_id = $1 and w.lease_until > now() and w.ended_at is null and not w.draining)
    returning j.job_id, j.lease_no, j.owner, j.model_id, j.model_version_id, j.image_sha256, j.image_upload, j.params, j.priority, j.seq,
              j.interruptions, j.attempts_started, j.attempt_timeout_seconds, j.trace_parent, j.run_at
),
told as materialized (
    select publish_starts(array_agg(job_id), array_agg(owner)) from claimed
)
select job_id as "job_id!", lease_no as "lease_no!", owner as "owner!", model_id as "model_id!", model_version_id as "model_version_id!",
       image_sha256 as "image_sha256!", image_upload as "image_upload!", params as "params!", priority as "priority!", seq as "seq!",
       interruptions as "interruptions!", attempts_started as "attempts_started!", attempt_timeout_seconds as "attempt_timeout_seconds!", trace_parent,
       date_part('epoch', now() - run_at) * 1000 as "queue_ms!"
from claimed cross join told
