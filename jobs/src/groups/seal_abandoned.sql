-- Its uploader may have died between the commit of jobs and the note that says so.
with abandoned as materialized (
    select g.group_id from groups g
    where g.finished_at is null and g.sealed_at is null and g.heard_at < now() - make_interval(secs => $1)
    order by g.group_id limit 100 for no key update skip locked
)
update groups g
set sealed_at = now(), broke_off = true, upload_no = g.upload_no + 1,
    lines = greatest(g.lines,
                     (select max(j.group_position) from live_jobs j where j.group_id = g.group_id),
                     (select max(f.group_position) from finished_jobs f
                      where f.group_id = g.group_id and f.job_id >= uuid_from_time(g.created_at - interval '1 hour')))
from abandoned a where g.group_id = a.group_id
returning g.group_id as "group_id!"
