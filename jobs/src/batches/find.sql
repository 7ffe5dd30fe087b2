-- Once a batch has ended its counts stand in its row, and its jobs are not looked at any more.
select g.batch_id as "batch_id!", g.metadata as "metadata!", g.created_at as "created_at!", g.sealed_at is not null as "is_sealed!",
       g.broke_off as "broke_off!", g.cancel_requested_at is not null as "cancel_requested!", g.finished_at,
       g.lines as "lines!", g.refused as "refused!",
       live.queued as "queued!", live.running as "running!", live.scheduled as "scheduled!",
       coalesce(g.succeeded, ended.succeeded) as "succeeded!", coalesce(g.failed, ended.failed) as "failed!",
       coalesce(g.canceled, ended.canceled) as "canceled!", coalesce(g.expired, ended.expired) as "expired!"
from batches g,
lateral (
    select count(*) filter (where j.state = 'queued') as queued, count(*) filter (where j.state = 'running') as running,
           count(*) filter (where j.state = 'scheduled') as scheduled
    from live_jobs j where j.batch_id = g.batch_id and g.finished_at is null
) live,
lateral (
    select count(*) filter (where f.state = 'succeeded') as succeeded, count(*) filter (where f.state = 'failed') as failed,
           count(*) filter (where f.state = 'canceled') as canceled, count(*) filter (where f.state = 'expired') as expired
    from finished_jobs f
    where f.batch_id = g.batch_id and g.finished_at is null and f.job_id >= uuid_from_time(g.created_at - interval '1 hour')
) ended
where g.batch_id = any($1) and g.owner = $2
