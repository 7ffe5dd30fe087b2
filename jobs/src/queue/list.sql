-- Newest first, without tombstones; the cursor is the last id seen, so that a page costs the same at any depth. The jobs of a
-- batch were made between its beginning and its sealing, give or take the difference of two clocks. An id is made before its row
-- begins, at the commit, by another clock: an hour of both is more than enough.
select job_id as "job_id!", version as "version!", status as "status!", owner as "owner!", task as "task!", model as "model!",
       model_name as "model_name!", model_version as "model_version!", model_digest as "model_digest!",
       image as "image!", content_type, bytes, width, height, params as "params!", metadata as "metadata!", priority as "priority!",
       created_at as "created_at!", run_at as "run_at!", started_at, finished_at, deadline, retain_until,
       cancel_requested as "cancel_requested!", lease_no as "lease_no!", attempts_started as "attempts_started!",
       attempts_charged as "attempts_charged!", attempts_max as "attempts_max!", interruptions as "interruptions!",
       interruptions_max as "interruptions_max!", worker, device, result, problem, timings, batch_size, batch_position,
       trace_parent, batch_uuid, batch_line, custom_id, webhook_url, purged_at
from ops.jobs
where owner = $1 and purged_at is null
  -- Bounds that a plan for any values can use.
  and job_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  and ($3::text is null or status = $3)
  and ($4::text is null or model_name = $4)
  and ($5::text is null or task = $5)
  -- As text: a query has no other types.
  and ($6::jsonb = '{}' or not exists (
      select from jsonb_each_text($6) as want(key, value) where (metadata ->> want.key) is distinct from want.value))
  and created_at >= coalesce($7::timestamptz, '-infinity') and job_id >= uuid_from_time(greatest($7 - interval '1 hour', 'epoch'))
  and created_at < coalesce($8::timestamptz, 'infinity')
  and ($10::uuid is null or batch_uuid = $10)
  and job_id >= coalesce((select uuid_from_time(g.created_at - interval '1 hour') from batches g where g.batch_id = $10),
                         '00000000-0000-0000-0000-000000000000')
  and job_id <= coalesce((select uuid_from_time(g.sealed_at + interval '1 hour') from batches g where g.batch_id = $10 and g.sealed_at is not null),
                         'ffffffff-ffff-ffff-ffff-ffffffffffff')
order by job_id desc limit $9
