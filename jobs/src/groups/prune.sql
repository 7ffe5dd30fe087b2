with old as materialized (
    select g.group_id from groups g
    where g.finished_at < now() - make_interval(secs => $1)
      and not exists (select from live_jobs j where j.group_id = g.group_id)
      and not exists (select from finished_jobs f where f.group_id = g.group_id and f.purged_at is null
                                                    and f.job_id >= uuid_from_time(g.created_at - interval '1 hour'))
    order by g.finished_at limit 100 for update skip locked
),
refused as (
    delete from group_refusals r using old where r.group_id = old.group_id
)
delete from groups g using old where g.group_id = old.group_id
