-- Contract: the backlog, the models and the workers.
-- Windows over finished jobs are bounded by id too, so that older partitions are not opened. An id begins with the time
-- when its job was made, which may be long before the job ended: hence "made in the last two days".

create view ops.queue as
select m.name as model, j.priority, j.queued, j.running, j.scheduled, j.oldest_age_seconds, m.paused_at is not null as paused,
       m.pause_reason,
       coalesce(arrived.jobs, 0) / 300::float8 as arrived_per_second,
       coalesce(ended.jobs, 0) / 300::float8 as finished_per_second
from (
    select model_id, priority,
           count(*) filter (where state = 'queued')    as queued,
           count(*) filter (where state = 'running')   as running,
           count(*) filter (where state = 'scheduled') as scheduled,
           extract(epoch from now() - min(run_at) filter (where state = 'queued'))::float8 as oldest_age_seconds
    from live_jobs group by model_id, priority
) j
join models m using (model_id)
-- The planner drops these joins when a query selects no rates, so a query for counts reads no finished jobs.
left join (
    select model_id, priority, count(*) as jobs
    from (select model_id, priority from live_jobs where job_id >= uuid_from_time(now() - interval '5 minutes')
          union all
          select model_id, priority from finished_jobs where job_id >= uuid_from_time(now() - interval '5 minutes')) a
    group by model_id, priority
) arrived using (model_id, priority)
left join (
    select model_id, priority, count(*) as jobs from finished_jobs
    where claimed_at is not null and finished_at > now() - interval '5 minutes' and job_id >= uuid_from_time(now() - interval '2 days')
    group by model_id, priority
) ended using (model_id, priority);
comment on view ops.queue is 'Backlog per model and priority; a level without live jobs has no row. Rates are of the last five minutes.';
comment on column ops.queue.model is 'Name of the model.';
comment on column ops.queue.priority is 'Level of these jobs; higher goes first.';
comment on column ops.queue.queued is 'Jobs that wait for a worker.';
comment on column ops.queue.running is 'Jobs that a worker holds.';
comment on column ops.queue.scheduled is 'Jobs that are due later, planned or in backoff.';
comment on column ops.queue.oldest_age_seconds is 'How long the longest-waiting queued job has been due.';
comment on column ops.queue.paused is 'Whether workers leave this model alone.';
comment on column ops.queue.pause_reason is 'Why, as the operator said.';
comment on column ops.queue.arrived_per_second is 'Jobs made in a second, over the last five minutes.';
comment on column ops.queue.finished_per_second is 'Jobs that workers ended in a second, over the last five minutes. Counts only jobs that were made in the last two days.';

create view ops.scaling as
with backlog as (
    select model_id, count(*) filter (where state = 'queued') as queued, count(*) filter (where state = 'running') as running
    from live_jobs group by model_id
),
arrived as (
    select model_id, count(*) / 300::float8 as per_second
    from (select model_id from live_jobs where job_id >= uuid_from_time(now() - interval '5 minutes')
          union all
          select model_id from finished_jobs where job_id >= uuid_from_time(now() - interval '5 minutes')) a
    group by model_id
),
-- Time in which a worker held at least one job of the model. Attempts of a worker overlap, so each counts only from the
-- moment when the earlier ones had ended.
attempt as (
    select model_id, claimed_at, finished_at, max(finished_at) over (
               partition by model_id, worker order by claimed_at, finished_at rows between unbounded preceding and 1 preceding) as covered_until
    from finished_jobs
    where claimed_at is not null and finished_at > now() - interval '10 minutes' and job_id >= uuid_from_time(now() - interval '2 days')
),
measured as (
    select model_id, count(*) / nullif(sum(greatest(extract(epoch from finished_at - greatest(claimed_at, covered_until)), 0)), 0)::float8 as per_worker_second
    from attempt group by model_id
),
work as (
    select m.model_id, m.name, m.paused_at is not null as paused, coalesce(b.queued, 0) as queued, coalesce(b.running, 0) as running,
           coalesce(a.per_second, 0) as arrived_per_second, s.per_worker_second, (coalesce(b.queued, 0) + coalesce(b.running, 0)) / s.per_worker_second as work_seconds,
           (select count(*) from workers w where w.ended_at is null and w.lease_until > now() and not w.draining
                                             and (cardinality(w.models) = 0 or m.name = any(w.models))) as live_workers
    from models m left join backlog b using (model_id) left join arrived a using (model_id) left join measured s using (model_id)
)
select name as model, queued, running, arrived_per_second, per_worker_second as finished_per_worker_second, work_seconds, live_workers,
       case when paused or queued + running = 0 and arrived_per_second = 0 then 0
            when per_worker_second is null then greatest(live_workers, 1)
            else greatest(1, ceil(work_seconds / 30), ceil(arrived_per_second / per_worker_second))::bigint end as desired_workers,
       paused
from work;
comment on view ops.scaling is 'The one signal for an autoscaler: one row a model, whether it has jobs or not.';
comment on column ops.scaling.model is 'Name of the model.';
comment on column ops.scaling.queued is 'Jobs that wait for a worker.';
comment on column ops.scaling.running is 'Jobs that a worker holds.';
comment on column ops.scaling.arrived_per_second is 'Jobs made in a second, over the last five minutes.';
comment on column ops.scaling.finished_per_worker_second is 'What one worker ends in a second while it has jobs of this model, over the last ten minutes; empty if none ended.';
comment on column ops.scaling.work_seconds is 'Seconds that one worker would need for the queued and running jobs. For a target other than 30 seconds, divide by it.';
comment on column ops.scaling.live_workers is 'Workers that run the model and are not leaving.';
comment on column ops.scaling.desired_workers is 'Workers that would end the backlog in 30 seconds and keep up with the arrivals; 0 if no job waits, runs or arrives, or if the model is paused.';
comment on column ops.scaling.paused is 'Whether workers leave this model alone.';

create view ops.models as
select m.name, v.version, v.task, 'sha256:' || encode(v.digest, 'hex') as digest,
       coalesce((select array_agg(a.alias order by a.alias) from model_aliases a where a.model_version_id = v.model_version_id), '{}') as aliases,
       m.is_default, m.paused_at is not null as paused, v.created_at, v.retired_at, m.paused_at, m.pause_reason,
       v.state, v.state_cause, v.state_worker, v.state_at, v.alias_wanted, v.load_error, v.load_error_worker, v.load_error_at, v.prefetch_at, v.signed_by
from model_versions v join models m using (model_id);
comment on view ops.models is 'Every model version and the aliases that point to it.';
comment on column ops.models.name is 'Name of the model.';
comment on column ops.models.version is 'From 1.';
comment on column ops.models.task is 'Kind of prediction.';
comment on column ops.models.digest is 'Names the version by its content.';
comment on column ops.models.aliases is 'Movable names that point to it now.';
comment on column ops.models.is_default is 'Whether jobs that name no model get this one.';
comment on column ops.models.paused is 'Whether workers leave this model alone.';
comment on column ops.models.created_at is 'When it was registered.';
comment on column ops.models.retired_at is 'Since when new jobs cannot name it.';
comment on column ops.models.paused_at is 'Since when workers leave this model alone.';
comment on column ops.models.pause_reason is 'Why, as the operator said.';
comment on column ops.models.signed_by is 'Id of the minisign key whose signature the push brought; empty for a version without a checked signature.';
comment on column ops.models.state is 'validating: a worker has yet to load it. ready: jobs may name it. rejected: it cannot be loaded.';
comment on column ops.models.state_cause is 'Why it was rejected; while it is validating, why earlier workers could not decide; if it is ready, what the worker that tried it found wrong. First lines, 2000 characters at most.';
comment on column ops.models.state_worker is 'Name of the worker that loaded or rejected it, or that wrote the first line of the cause; empty if it was pushed without a trial.';
comment on column ops.models.state_at is 'Since when it is in this state.';
comment on column ops.models.alias_wanted is 'The alias that moves to it when its trial passes.';
comment on column ops.models.load_error is 'Why a worker last failed to load it, also for a job. First lines, 2000 characters at most.';
comment on column ops.models.load_error_worker is 'Name of that worker.';
comment on column ops.models.load_error_at is 'When that was.';
comment on column ops.models.prefetch_at is 'When workers were last asked to load it.';

create view ops.workers as
select worker_id, name, device, build, models, registered_at, lease_until, draining,
       case when ended_at is not null then 'ended' when lease_until < now() then 'lost' when draining then 'draining' else 'alive' end as status,
       (select count(*) from live_jobs j where j.worker_id = w.worker_id and j.state = 'running') as running,
       loaded, store_fault
from workers w;
comment on view ops.workers is 'Worker processes; lost means that the lease expired.';
comment on column ops.workers.worker_id is 'Number of the worker process; never reused.';
comment on column ops.workers.name is 'Name that the worker gave itself.';
comment on column ops.workers.device is 'Device that runs the forward passes.';
comment on column ops.workers.build is 'Version of its program.';
comment on column ops.workers.models is 'Models it runs; empty for any.';
comment on column ops.workers.registered_at is 'When the worker registered.';
comment on column ops.workers.lease_until is 'End of the lease, unless the worker renews it.';
comment on column ops.workers.draining is 'Whether the worker was asked to finish its jobs and exit.';
comment on column ops.workers.status is 'alive, draining, ended, or lost (the lease expired).';
comment on column ops.workers.running is 'Jobs that it holds.';
comment on column ops.workers.loaded is 'Models that the worker has loaded: a list of {model, precision, batch_best, artifact, warning}. batch_best is the number of images in a forward batch; artifact is its name in the manifest; warning is there only if the worker found something wrong with the model.';
comment on column ops.workers.store_fault is 'What is wrong with the bucket of the worker; null while all is well.';
