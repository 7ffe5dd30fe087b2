-- Lines by their numbers: a range of the index of each table, however large the batch is.
select job_id as "job_id!", version as "version!", status as "status!", owner as "owner!", task as "task!", model as "model!",
       model_name as "model_name!", model_version as "model_version!", model_digest as "model_digest!",
       image as "image!", content_type, bytes, width, height, params as "params!", metadata as "metadata!", priority as "priority!",
       created_at as "created_at!", run_at as "run_at!", started_at, finished_at, deadline, retain_until,
       cancel_requested as "cancel_requested!", lease_no as "lease_no!", attempts_started as "attempts_started!",
       attempts_charged as "attempts_charged!", attempts_max as "attempts_max!", interruptions as "interruptions!",
       interruptions_max as "interruptions_max!", worker, device, result, problem, timings, batch_size, batch_position,
       trace_parent, batch_uuid, batch_line, custom_id, webhook_url, purged_at
from ops.jobs
where batch_uuid = $1 and owner = $2 and batch_line > $3 and batch_line <= $4
  and job_id >= (select uuid_from_time(g.created_at - interval '1 hour') from batches g where g.batch_id = $1)
order by batch_line
