with old as materialized (
    select g.batch_id from batches g
    where g.finished_at < now() - make_interval(secs => $1)
      and not exists (select from live_jobs j where j.batch_id = g.batch_id)
      and not exists (select from finished_jobs f where f.batch_id = g.batch_id and f.purged_at is null
                                                    and f.job_id >= uuid_from_time(g.created_at - interval '1 hour'))
    order by g.finished_at limit 100 for update skip locked
),
refused as (
    delete from batch_refusals r using old where r.batch_id = old.batch_id
)
delete from batches g using old where g.batch_id = old.batch_id
