-- The end of a job: its tombstone goes, with its attempts. From now on its id is unknown.
with old as materialized (
    select job_id from finished_jobs where purged_at < now() - make_interval(secs => $1)
    order by purged_at limit 500 for update skip locked
),
tried as (
    delete from attempts a using old where a.job_id = old.job_id
),
gone as (
    delete from finished_jobs f using old where f.job_id = old.job_id returning f.job_id
)
select count(*) as "pruned!" from gone
