select delivery_id, endpoint_id, url, type as event_type, at, job_id, batch_id, status, next_attempt_at, ended_at, log
from webhook_deliveries
where owner = $1
  and delivery_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  and ($3::text is null or status = $3)
  and ($4::uuid is null or job_id = $4)
  and ($5::uuid is null or endpoint_id = $5)
order by delivery_id desc limit $6
