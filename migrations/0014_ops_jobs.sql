-- Schema `ops`, the contract for operators: what psql may rely on. Views only add columns; they never lose or rename one.

create schema ops;
comment on schema ops is 'The contract for operators: stable views over jobs, attempts, queues and workers.';

create function ops.job_name(job_id uuid) returns text language sql immutable strict parallel safe
    as $$ select 'job_' || replace(job_id::text, '-', '') $$;
comment on function ops.job_name is 'The id as clients see it.';

create function ops.job_id(id text) returns uuid
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
begin
    return replace(id, 'job_', '')::uuid;
exception when invalid_text_representation then
    raise exception '% is not the id of a job', id using errcode = 'invalid_parameter_value', hint = 'An id is job_ and 32 hex digits, or a uuid.';
end $$;
comment on function ops.job_id is 'The uuid of an id as clients see it; takes a uuid as text too.';

create function ops.first_job_id(made_at timestamptz) returns uuid
language sql stable strict parallel safe as $$ select uuid_from_time(made_at) $$;
comment on function ops.first_job_id is 'The smallest id of a job made at this time: job_id >= ops.first_job_id(now() - interval ''1 day'') opens no older partition.';

-- How long a job waited follows from its times, so the stored timings do not repeat it.
create function with_waits(timings jsonb, created_at timestamptz, run_at timestamptz, claimed_at timestamptz, finished_at timestamptz) returns jsonb
language sql immutable parallel safe as $$
    select timings || jsonb_build_object('queue', round(extract(epoch from claimed_at - run_at) * 1000, 3),
                                         'total', round(extract(epoch from finished_at - created_at) * 1000, 3))
$$;
comment on function with_waits is 'Adds queue and total to the timings of the worker, in milliseconds; null if there are no timings.';

create view ops.jobs as
select j.job_id, ops.job_name(j.job_id) as id, j.version, job_status(j.state) as status, v.task, j.owner,
       j.model_ref as model, m.name as model_name, v.version as model_version, 'sha256:' || encode(v.digest, 'hex') as model_digest,
       'sha256:' || encode(j.image_sha256, 'hex') as image, i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at as started_at, null::timestamptz as finished_at,
       j.deadline_at as deadline, null::timestamptz as retain_until, j.cancel_requested, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       w.name as worker, w.device, null::jsonb as result, j.problem, null::jsonb as timings,
       null::smallint as batch_size, null::smallint as batch_position, j.trace_parent, null::timestamptz as purged_at,
       case when j.batch_id is not null then 'batch_' || replace(j.batch_id::text, '-', '') end as batch_id, j.batch_id as batch_uuid, j.batch_line, j.custom_id, shown_url(j.webhook_url) as webhook_url,
       null::text[] as input_warnings
from live_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256
left join workers w on w.worker_id = j.worker_id
union all
select j.job_id, ops.job_name(j.job_id), j.version, job_status(j.state), v.task, j.owner,
       j.model_ref, m.name, v.version, 'sha256:' || encode(v.digest, 'hex'),
       'sha256:' || encode(j.image_sha256, 'hex'), i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at, j.finished_at,
       j.deadline_at, j.retain_until, false, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       j.worker, j.device, j.result, j.problem,
       with_waits(j.timings, j.created_at, j.run_at, j.claimed_at, j.finished_at),
       j.forward_batch_size, j.forward_batch_position, j.trace_parent, j.purged_at,
       case when j.batch_id is not null then 'batch_' || replace(j.batch_id::text, '-', '') end, j.batch_id, j.batch_line, j.custom_id, shown_url(j.webhook_url),
       j.input_warnings
from finished_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256;
comment on view ops.jobs is 'Live and finished jobs as one; a look-up by job_id touches the live table and one partition.';
comment on column ops.jobs.job_id is 'The id as a uuid: what functions and the base tables take.';
comment on column ops.jobs.id is 'The id as clients see it: job_ and 32 hex digits.';
comment on column ops.jobs.version is 'Grows with every change; the ETag of the REST job.';
comment on column ops.jobs.status is 'scheduled, queued, running, succeeded, failed, canceled or expired.';
comment on column ops.jobs.task is 'Kind of prediction: classify, embed.';
comment on column ops.jobs.owner is 'Whose job it is: the owner of the API key that submitted it.';
comment on column ops.jobs.model is 'What was asked for, its alias spelled out: efficientnet-lite0@default.';
comment on column ops.jobs.model_name is 'Name of the model.';
comment on column ops.jobs.model_version is 'Version that the job was resolved to at submit.';
comment on column ops.jobs.model_digest is 'Digest of that version.';
comment on column ops.jobs.image is 'Digest of the uploaded bytes.';
comment on column ops.jobs.content_type is 'Type of the image by its bytes.';
comment on column ops.jobs.bytes is 'Size of the image in bytes.';
comment on column ops.jobs.width is 'Pixels across, by the header, before any EXIF rotation.';
comment on column ops.jobs.height is 'Pixels down, by the header, before any EXIF rotation.';
comment on column ops.jobs.params is 'Parameters of the model, defaults filled in.';
comment on column ops.jobs.metadata is 'What the client attached.';
comment on column ops.jobs.priority is 'From -100 to 100; higher goes first.';
comment on column ops.jobs.created_at is 'When it was accepted.';
comment on column ops.jobs.run_at is 'When it is, or was, due. Most jobs: at submit. Planned jobs and backoff: later. After a release or a loss: that moment.';
comment on column ops.jobs.started_at is 'Start of the running or the last attempt.';
comment on column ops.jobs.finished_at is 'When it reached its terminal state.';
comment on column ops.jobs.deadline is 'The result is useless after this time, so the job expires.';
comment on column ops.jobs.retain_until is 'Its data is kept at least until this time.';
comment on column ops.jobs.cancel_requested is 'A cancel was requested, and its worker has not given it up yet.';
comment on column ops.jobs.lease_no is 'Grows when a worker claims the job and when a worker loses it; the fencing token of writes by workers.';
comment on column ops.jobs.attempts_started is 'Attempts so far, charged or not.';
comment on column ops.jobs.attempts_charged is 'Attempts that count against attempts_max.';
comment on column ops.jobs.attempts_max is 'Charged attempts that the job may have.';
comment on column ops.jobs.interruptions is 'Attempts that were lost with their worker.';
comment on column ops.jobs.interruptions_max is 'The job fails when it reaches this number of interruptions.';
comment on column ops.jobs.worker is 'Name of the worker of the running or the last attempt.';
comment on column ops.jobs.device is 'Device of that worker.';
comment on column ops.jobs.result is 'Output of the model; only for jobs that succeeded.';
comment on column ops.jobs.problem is 'Why it failed, expired, or backs off: the REST error.';
comment on column ops.jobs.timings is 'Stage to milliseconds, of the last attempt.';
comment on column ops.jobs.batch_size is 'Images that shared its forward pass.';
comment on column ops.jobs.batch_position is 'Its place among them, from 0.';
comment on column ops.jobs.trace_parent is 'W3C trace context of the submit.';
comment on column ops.jobs.purged_at is 'When its data was deleted; the row stays.';
comment on column ops.jobs.batch_id is 'The batch it was submitted with, as clients see it.';
comment on column ops.jobs.batch_uuid is 'batch_id as a uuid.';
comment on column ops.jobs.batch_line is 'Number of its line in the batch, from 1.';
comment on column ops.jobs.custom_id is 'The client''s own name of the job within its batch.';
comment on column ops.jobs.webhook_url is 'Where the end of this job is told, besides the owner''s endpoints; for darkroom_reader without user, path and query, which often hold a token.';
comment on column ops.jobs.input_warnings is 'Codes of what is wrong with the file of the image, although all its pixels are there; null if nothing is, and until the job ends.';

create view ops.attempts as
select job_id, number, worker, device, started_at, ended_at, outcome, charged, problem from attempts
union all
select j.job_id, j.attempts_started, w.name, w.device, j.claimed_at, null, null, false, null
from live_jobs j join workers w using (worker_id) where j.state = 'running'
union all
select job_id, attempts_started, worker, device, claimed_at, finished_at, 'succeeded', true, null
from finished_jobs where state = 'succeeded' and claimed_at is not null;
comment on view ops.attempts is 'Every attempt of every job; one without an end is running now.';
comment on column ops.attempts.job_id is 'The job.';
comment on column ops.attempts.number is 'From 1, in the order of starting.';
comment on column ops.attempts.worker is 'Name of the worker.';
comment on column ops.attempts.device is 'Device of that worker.';
comment on column ops.attempts.started_at is 'When the job was claimed.';
comment on column ops.attempts.ended_at is 'When the attempt ended; empty while it runs.';
comment on column ops.attempts.outcome is 'retried, postponed, released, lost, timed_out, failed, canceled or succeeded; empty while it runs.';
comment on column ops.attempts.charged is 'Whether it counts against attempts_max.';
comment on column ops.attempts.problem is 'What went wrong.';
