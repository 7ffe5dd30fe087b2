-- The next few hundred: one transaction must not hold what fifty thousand jobs need.
with failed as materialized (
    select f.job_id, f.batch_line from batches g join finished_jobs f using (batch_id)
    where g.batch_id = $1 and g.owner = $2 and f.state = 'failed' and f.purged_at is null and f.batch_line > $3
      and f.job_id >= uuid_from_time(g.created_at - interval '1 hour')
    order by f.batch_line limit 500
),
tried as materialized (
    select batch_line, retry_job(job_id, $2, $4) as outcome from failed
)
select count(*) filter (where outcome = 'queued') as "queued!", max(batch_line) as last from tried
