-- By primary keys alone, whatever the statistics say (hence `offset 0`, and `any` where `=` would let an image be
-- looked up by its owner alone): one row of the view for each that was asked for.
select job_id as "job_id!", version as "version!", status as "status!", owner as "owner!", task as "task!", model as "model!",
       model_name as "model_name!", model_version as "model_version!", model_digest as "model_digest!",
       image as "image!", content_type, bytes, width, height, params as "params!", metadata as "metadata!", priority as "priority!",
       created_at as "created_at!", run_at as "run_at!", started_at, finished_at, deadline, retain_until,
       cancel_requested as "cancel_requested!", lease_no as "lease_no!", attempts_started as "attempts_started!",
       attempts_charged as "attempts_charged!", attempts_max as "attempts_max!", interruptions as "interruptions!",
       interruptions_max as "interruptions_max!", worker, device, result, problem, timings, batch_size, batch_position,
       trace_parent, batch_uuid, batch_line, custom_id, webhook_url, purged_at
from unnest($1::uuid[], $2::text[]) as asked(id, by)
cross join lateral (select * from ops.jobs x where x.job_id = asked.id and x.owner = any(array[asked.by]) offset 0) j
