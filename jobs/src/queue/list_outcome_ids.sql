-- As list_ids.sql, for jobs that failed, expired or were canceled: an index of these few jobs. It passes over no job that succeeded.
with floor as materialized (
    select f.job_id from finished_jobs f
    where (f.owner, f.state, f.job_id) < ($1, $7::text::job_state, $2) and (f.owner, f.state, f.job_id) >= ($1, $7::text::job_state, $3)
      and f.state <> 'succeeded' and f.purged_at is null and f.job_id < $2 and f.job_id >= $3
    order by f.owner desc, f.state desc, f.job_id desc offset $5::bigint - 1 limit case when $6 then 1 else 0 end
),
finished as (
    select f.job_id from finished_jobs f
    where (f.owner, f.state, f.job_id) < ($1, $7::text::job_state, $2)
      and (f.owner, f.state, f.job_id) >= ($1, $7::text::job_state, coalesce((select o.job_id from floor o), $3))
      and f.state <> 'succeeded' and f.purged_at is null
      and f.job_id < $2 and f.job_id >= $3 and f.job_id >= coalesce((select o.job_id from floor o), $3)
      and ($8::text is null or f.model_id = (select m.model_id from models m where m.name = $8))
      and ($9::text is null or f.model_version_id in (select v.model_version_id from model_versions v where v.task = $9))
      and ($10::jsonb = '{}' or not exists (
          select from jsonb_each_text($10) as want(key, value) where (f.metadata ->> want.key) is distinct from want.value))
      and f.created_at >= coalesce($11::timestamptz, '-infinity') and f.created_at < coalesce($12::timestamptz, 'infinity')
      and ($13::uuid is null or f.batch_id = $13)
    order by f.owner desc, f.state desc, f.job_id desc limit $4
)
select u.job_id as "job_id!", false as "is_floor!" from finished u
union all
select f.job_id, true from floor f
