-- The ids of one page, newest first, in an index order of each table: `union all` of the tables themselves has no order, and all
-- jobs of the owner would be read and sorted. A filtered page looks at no more than $5 jobs; the row of `floor` is the last one.
-- The comparisons of (owner, job_id) say that the owner is $1. With `owner = $1` the planner may walk through the jobs of all owners
-- in the order of their ids. The bounds of job_id alone tell which partitions are needed.
with floor as materialized (
    select u.job_id from (
        (select l.owner, l.job_id from live_jobs l
         where $7 and (l.owner, l.job_id) < ($1, $2) and (l.owner, l.job_id) >= ($1, $3)
         order by l.owner desc, l.job_id desc limit $5)
        union all
        (select f.owner, f.job_id from finished_jobs f
         where $8 and (f.owner, f.job_id) < ($1, $2) and (f.owner, f.job_id) >= ($1, $3) and f.purged_at is null and f.job_id < $2 and f.job_id >= $3
         order by f.owner desc, f.job_id desc limit $5)
    ) u order by u.owner desc, u.job_id desc offset $5::bigint - 1 limit case when $6 then 1 else 0 end
),
live as (
    select l.job_id from live_jobs l
    where $7 and (l.owner, l.job_id) < ($1, $2) and (l.owner, l.job_id) >= ($1, coalesce((select f.job_id from floor f), $3))
      and ($9::text is null or l.state = $9::text::job_state)
      and ($10::text is null or l.model_id = (select m.model_id from models m where m.name = $10))
      and ($11::text is null or l.model_version_id in (select v.model_version_id from model_versions v where v.task = $11))
      -- As text: a query has no other types.
      and ($12::jsonb = '{}' or not exists (
          select from jsonb_each_text($12) as want(key, value) where (l.metadata ->> want.key) is distinct from want.value))
      and l.created_at >= coalesce($13::timestamptz, '-infinity') and l.created_at < coalesce($14::timestamptz, 'infinity')
      and ($15::uuid is null or l.batch_id = $15)
    order by l.owner desc, l.job_id desc limit $4
),
finished as (
    select f.job_id from finished_jobs f
    where $8 and (f.owner, f.job_id) < ($1, $2) and (f.owner, f.job_id) >= ($1, coalesce((select o.job_id from floor o), $3))
      and f.purged_at is null and f.job_id < $2 and f.job_id >= $3 and f.job_id >= coalesce((select o.job_id from floor o), $3)
      and ($9::text is null or f.state = $9::text::job_state)
      and ($10::text is null or f.model_id = (select m.model_id from models m where m.name = $10))
      and ($11::text is null or f.model_version_id in (select v.model_version_id from model_versions v where v.task = $11))
      and ($12::jsonb = '{}' or not exists (
          select from jsonb_each_text($12) as want(key, value) where (f.metadata ->> want.key) is distinct from want.value))
      and f.created_at >= coalesce($13::timestamptz, '-infinity') and f.created_at < coalesce($14::timestamptz, 'infinity')
      and ($15::uuid is null or f.batch_id = $15)
    order by f.owner desc, f.job_id desc limit $4
)
select u.job_id as "job_id!", false as "is_floor!" from (select job_id from live union all select job_id from finished) u
union all
select f.job_id, true from floor f
