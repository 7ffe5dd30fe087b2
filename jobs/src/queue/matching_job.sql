-- By primary keys alone, whatever the statistics say (hence `offset 0`): a few ids that the image names.
with recent as (
    select * from unnest($1::uuid[]) with ordinality as r(job_id, place)
),
hit as (
    select f.job_id, f.retain_until < now() + 0.9 * f.retain_for as is_old
    from recent r cross join lateral (select * from finished_jobs x where x.job_id = r.job_id offset 0) f
    where f.state = 'succeeded' and f.purged_at is null and f.owner = $2 and f.model_version_id = $3 and f.params = $4
      and f.metadata = $5 and f.retain_for = make_interval(secs => $6)
    order by r.place limit 1
),
kept as (
    update finished_jobs f set retain_until = now() + f.retain_for, version = f.version + 1
    where f.job_id = (select job_id from hit where is_old)
),
-- One that may expire, goes with its batch, or stands behind where this one would is not the same.
joined as (
    select j.job_id
    from recent r cross join lateral (select * from live_jobs x where x.job_id = r.job_id offset 0) j
    where (j.state in ('queued', 'running') or j.attempts_charged > 0) and not j.cancel_requested and j.deadline_at is null
      and j.batch_id is null and j.owner = $2 and j.model_version_id = $3 and j.params = $4 and j.metadata = $5
      and j.retain_for = make_interval(secs => $6) and j.priority >= $7 and j.attempts_max >= $8
    order by r.place limit 1
)
select job_id as "job_id!", true as "has_succeeded!" from hit
union all
select job_id, false from joined where not exists (select from hit)
