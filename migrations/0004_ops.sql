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
       j.batch_size, j.batch_position, j.trace_parent, j.purged_at
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
