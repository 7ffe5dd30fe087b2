with taken_over as (
    update batches g
    set upload_no = g.upload_no + 1, lines = g.upload_lines, heard_at = now(), sealed_at = null, broke_off = false,
        finished_at = null, succeeded = null, failed = null, canceled = null, expired = null
    where g.batch_id = $1 and g.owner = $2 and g.cancel_requested_at is null
      and (g.broke_off or g.sealed_at is null and g.heard_at < now() - make_interval(secs => $3))
    returning g.batch_id, g.upload_no
)
select t.upload_no as "upload_no?", g.upload_lines as "lines!", g.upload_sha256,
       g.sealed_at is not null as "is_sealed!"
from batches g left join taken_over t using (batch_id)
where g.batch_id = $1 and g.owner = $2
