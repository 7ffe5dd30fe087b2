-- Its uploader may have died between the commit of jobs and the note that says so.
with abandoned as materialized (
    select g.batch_id from batches g
    where g.finished_at is null and g.sealed_at is null and g.heard_at < now() - make_interval(secs => $1)
    order by g.batch_id limit 100 for no key update skip locked
)
update batches g
set sealed_at = now(), broke_off = true, upload_no = g.upload_no + 1,
    lines = greatest(g.lines,
                     (select max(j.batch_line) from live_jobs j where j.batch_id = g.batch_id),
                     (select max(f.batch_line) from finished_jobs f
                      where f.batch_id = g.batch_id and f.job_id >= uuid_from_time(g.created_at - interval '1 hour')))
from abandoned a where g.batch_id = a.batch_id
returning g.batch_id as "batch_id!"
