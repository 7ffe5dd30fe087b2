-- The operator's contract: what psql may rely on. Views only add columns, never lose or rename one.
create schema ops;
comment on schema ops is 'The contract for operators: stable views over jobs, attempts, queues and workers.';

create function ops.job_name(job_id uuid) returns text language sql immutable strict parallel safe
    as $$ select 'job_' || replace(job_id::text, '-', '') $$;
comment on function ops.job_name is 'The id as clients see it.';

create view ops.jobs as
select j.job_id, ops.job_name(j.job_id) as id, j.version, j.state::text as status, v.task, j.owner,
       j.model_ref as model, m.name as model_name, v.version as model_version, 'sha256:' || encode(v.digest, 'hex') as model_digest,
       'sha256:' || encode(j.image_sha256, 'hex') as image, i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at as started_at, null::timestamptz as finished_at,
       j.deadline_at as deadline, null::timestamptz as retain_until, j.cancel_requested, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       w.name as worker, w.device, null::jsonb as result, j.problem, null::jsonb as timings,
       null::smallint as batch_size, null::smallint as batch_position, j.trace_parent, null::timestamptz as purged_at
from live_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256
left join workers w on w.worker_id = j.worker_id
union all
select j.job_id, ops.job_name(j.job_id), j.version, j.state::text, v.task, j.owner,
       j.model_ref, m.name, v.version, 'sha256:' || encode(v.digest, 'hex'),
       'sha256:' || encode(j.image_sha256, 'hex'), i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at, j.finished_at,
       j.deadline_at, j.retain_until, false, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       j.worker, j.device, j.result, j.problem, j.timings,
       j.forward_batch_size, j.forward_batch_position, j.trace_parent, j.purged_at
from finished_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256;
comment on view ops.jobs is 'Live and finished jobs as one; a look-up by job_id touches the live table and one partition.';

create view ops.attempts as
select job_id, number, worker, device, started_at, ended_at, outcome, charged, problem from attempts
union all
select j.job_id, j.attempts_started, w.name, w.device, j.claimed_at, null, null, false, null
from live_jobs j join workers w using (worker_id) where j.state = 'running'
union all
select job_id, attempts_started, worker, device, claimed_at, finished_at, 'succeeded', true, null
from finished_jobs where state = 'succeeded' and claimed_at is not null;
comment on view ops.attempts is 'Every attempt of every job; one without an end is running now.';

create view ops.queue as
select m.name as model, j.priority,
       count(*) filter (where j.state = 'queued')    as queued,
       count(*) filter (where j.state = 'running')   as running,
       count(*) filter (where j.state = 'scheduled') as scheduled,
       extract(epoch from now() - min(j.run_at) filter (where j.state = 'queued'))::float8 as oldest_age_seconds,
       m.paused_at is not null as paused
from live_jobs j join models m using (model_id)
group by m.name, j.priority, m.paused_at;
comment on view ops.queue is 'Backlog per model and priority.';

create view ops.workers as
select worker_id, name, device, build, models, registered_at, lease_until, draining,
       case when ended_at is not null then 'ended' when lease_until < now() then 'lost' when draining then 'draining' else 'alive' end as status,
       (select count(*) from live_jobs j where j.worker_id = w.worker_id and j.state = 'running') as running
from workers w;
comment on view ops.workers is 'Worker processes, newest last; lost means its lease ran out.';

create view ops.models as
select m.name, v.version, v.task, 'sha256:' || encode(v.digest, 'hex') as digest,
       coalesce((select array_agg(a.alias order by a.alias) from model_aliases a where a.model_version_id = v.model_version_id), '{}') as aliases,
       m.is_default, m.paused_at is not null as paused, v.created_at, v.retired_at
from model_versions v join models m using (model_id);
comment on view ops.models is 'Every model version and the aliases that point to it.';

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
comment on column ops.jobs.run_at is 'When it is, or was, due: later for planned jobs and back-off; again the present after a release or a loss.';
comment on column ops.jobs.started_at is 'Start of the running or the last attempt.';
comment on column ops.jobs.finished_at is 'When it reached its terminal state.';
comment on column ops.jobs.deadline is 'Of no use after this time.';
comment on column ops.jobs.retain_until is 'Kept at least until then.';
comment on column ops.jobs.cancel_requested is 'A client wants it canceled and its worker has not let go yet.';
comment on column ops.jobs.lease_no is 'Grows with every claim and every taking-away; fences the writes of workers.';
comment on column ops.jobs.attempts_started is 'Attempts so far, charged or not.';
comment on column ops.jobs.attempts_charged is 'Attempts that count against attempts_max.';
comment on column ops.jobs.attempts_max is 'Charged attempts that the job may have.';
comment on column ops.jobs.interruptions is 'Attempts that were lost with their worker.';
comment on column ops.jobs.interruptions_max is 'At so many interruptions the job fails.';
comment on column ops.jobs.worker is 'Name of the worker of the running or the last attempt.';
comment on column ops.jobs.device is 'Its device.';
comment on column ops.jobs.result is 'What the model said; only of succeeded jobs.';
comment on column ops.jobs.problem is 'Why it failed, expired, or backs off: the REST error.';
comment on column ops.jobs.timings is 'Stage to milliseconds, of the last attempt.';
comment on column ops.jobs.batch_size is 'Images that shared its forward pass.';
comment on column ops.jobs.batch_position is 'Its place among them, from 0.';
comment on column ops.jobs.trace_parent is 'W3C trace context of the submit.';
comment on column ops.jobs.purged_at is 'When its data was deleted; the row stays.';
comment on column ops.attempts.job_id is 'The job.';
comment on column ops.attempts.number is 'From 1, in the order of starting.';
comment on column ops.attempts.worker is 'Name of the worker.';
comment on column ops.attempts.device is 'Its device.';
comment on column ops.attempts.started_at is 'When the job was claimed.';
comment on column ops.attempts.ended_at is 'When the attempt ended; empty while it runs.';
comment on column ops.attempts.outcome is 'retried, released, lost, timed_out, failed, canceled or succeeded; empty while it runs.';
comment on column ops.attempts.charged is 'Whether it counts against attempts_max.';
comment on column ops.attempts.problem is 'What went wrong.';
comment on column ops.queue.model is 'Name of the model.';
comment on column ops.queue.priority is 'Level of these jobs; higher goes first.';
comment on column ops.queue.queued is 'Jobs that wait for a worker.';
comment on column ops.queue.running is 'Jobs that a worker holds.';
comment on column ops.queue.scheduled is 'Jobs that are due later, or back off.';
comment on column ops.queue.oldest_age_seconds is 'How long the longest-waiting queued job has been due.';
comment on column ops.queue.paused is 'Whether workers leave this model alone.';
comment on column ops.workers.worker_id is 'Number of the worker process; never used again.';
comment on column ops.workers.name is 'What it calls itself.';
comment on column ops.workers.device is 'What it infers on.';
comment on column ops.workers.build is 'Version of its program.';
comment on column ops.workers.models is 'Models it runs; empty for any.';
comment on column ops.workers.registered_at is 'When it came.';
comment on column ops.workers.lease_until is 'Until when it holds its jobs unless it renews.';
comment on column ops.workers.draining is 'Whether it was asked to finish and leave.';
comment on column ops.workers.status is 'alive, draining, ended, or lost: its lease ran out.';
comment on column ops.workers.running is 'Jobs that it holds.';
comment on column ops.models.name is 'Name of the model.';
comment on column ops.models.version is 'From 1.';
comment on column ops.models.task is 'Kind of prediction.';
comment on column ops.models.digest is 'Names the version by its content.';
comment on column ops.models.aliases is 'Movable names that point to it now.';
comment on column ops.models.is_default is 'Whether jobs that name no model get this one.';
comment on column ops.models.paused is 'Whether workers leave this model alone.';
comment on column ops.models.created_at is 'When it was registered.';
comment on column ops.models.retired_at is 'Since when new jobs cannot name it.';

-- Roles belong to the whole cluster: another database may have made them, perhaps at this moment. Where the user of the
-- service may not create roles, its owner does, and grants as below.
do $$
declare role text;
begin
    foreach role in array array['darkroom_reader', 'darkroom_operator', 'darkroom_worker', 'darkroom_api'] loop
        begin
            execute format('create role %I nologin', role);
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then raise notice 'role % was not created: not allowed to this user', role;
        end;
    end loop;
    if to_regrole('darkroom_reader') is not null then
        grant usage on schema ops to darkroom_reader;
        grant select on all tables in schema ops to darkroom_reader;
        grant execute on all functions in schema ops to darkroom_reader;
    end if;
    if to_regrole('darkroom_operator') is not null then
        grant usage on schema ops to darkroom_operator;
        grant select on all tables in schema ops to darkroom_operator;
    end if;
end $$;
