-- The next few hundred: one transaction must not hold what fifty thousand jobs need.
with failed as materialized (
    select f.job_id, f.group_position from groups g join finished_jobs f using (group_id)
    where g.group_id = $1 and g.owner = $2 and f.state = 'failed' and f.purged_at is null and f.group_position > $3
      and f.job_id >= uuid_from_time(g.created_at - interval '1 hour')
    order by f.group_position limit 500
),
tried as materialized (
    select group_position, retry_job(job_id, $2) as outcome from failed
)
select count(*) filter (where outcome = 'queued') as "queued!", max(group_position) as last from tried
