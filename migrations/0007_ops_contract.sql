-- More of the contract: what an operator looks at. Windows over finished jobs are bounded by id too, so that days that
-- cannot matter are not even opened: an id begins with the time when its job was made, which may be long before its end.

create or replace view ops.queue as
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
-- The planner leaves the rates out where nobody asks for them: counting does not touch finished jobs.
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
comment on column ops.queue.pause_reason is 'Why, as the operator said.';
comment on column ops.queue.arrived_per_second is 'Jobs made in a second, over the last five minutes.';
comment on column ops.queue.finished_per_second is 'Jobs that workers ended in a second, over the last five minutes; of those made in the last two days.';

create or replace view ops.models as
select m.name, v.version, v.task, 'sha256:' || encode(v.digest, 'hex') as digest,
       coalesce((select array_agg(a.alias order by a.alias) from model_aliases a where a.model_version_id = v.model_version_id), '{}') as aliases,
       m.is_default, m.paused_at is not null as paused, v.created_at, v.retired_at, m.paused_at, m.pause_reason
from model_versions v join models m using (model_id);
comment on column ops.models.paused_at is 'Since when workers leave this model alone.';
comment on column ops.models.pause_reason is 'Why, as the operator said.';

create view ops.stuck as
select 'model paused' as what, m.name as subject, m.name as model, m.paused_at as since,
       format('%s jobs wait; %s', q.waiting, coalesce(m.pause_reason, 'nobody said why')) as reason,
       format('select ops.resume(%L);', m.name) as next_step
from models m join (select model_id, count(*) as waiting from live_jobs where state = 'queued' group by model_id) q using (model_id)
where m.paused_at is not null
union all
select 'no worker', m.name, m.name, q.oldest, format('%s jobs wait, and no live worker runs this model', q.waiting),
       'select * from ops.workers order by worker_id desc limit 10;'
from models m join (select model_id, count(*) as waiting, min(run_at) as oldest from live_jobs where state = 'queued' group by model_id) q using (model_id)
where not exists (select from workers w where w.ended_at is null and w.lease_until > now() and not w.draining
                                          and (cardinality(w.models) = 0 or m.name = any(w.models)))
union all
select 'long wait', m.name, m.name, q.oldest, format('%s jobs wait, the first one for more than ten minutes', q.waiting),
       format('select * from ops.scaling where model = %L;', m.name)
from models m join (select model_id, count(*) as waiting, min(run_at) as oldest from live_jobs where state = 'queued' group by model_id) q using (model_id)
where m.paused_at is null and q.oldest < now() - interval '10 minutes'
union all
select 'worker lost', ops.job_name(j.job_id), m.name, w.lease_until, format('worker %s (%s) stopped renewing its lease, and nobody has taken the job back', w.name, w.worker_id),
       'Start an API or a worker: any of them does the housekeeping.'
from live_jobs j join models m using (model_id) left join workers w using (worker_id)
where j.state = 'running' and (w.worker_id is null or w.lease_until < now() - interval '5 seconds' or w.ended_at < now() - interval '5 seconds')
union all
select 'attempt too long', ops.job_name(j.job_id), m.name, j.claimed_at, format('its attempt should have ended by %s, and nobody has taken the job away', j.attempt_deadline_at),
       'Start an API or a worker: any of them does the housekeeping.'
from live_jobs j join models m using (model_id)
where j.state = 'running' and j.attempt_deadline_at < now() - interval '5 seconds'
union all
select 'overdue', ops.job_name(j.job_id), m.name, j.run_at, 'it is due, and nobody has queued it', 'Start an API or a worker: any of them does the housekeeping.'
from live_jobs j join models m using (model_id)
where j.state = 'scheduled' and j.run_at < now() - interval '5 seconds'
union all
select 'cancel ignored', ops.job_name(j.job_id), m.name, j.claimed_at, format('a cancel was asked for, and worker %s has not let go', w.name),
       format('select ops.drain(%s);', w.worker_id)
from live_jobs j join models m using (model_id) join workers w using (worker_id)
where j.state = 'running' and j.cancel_requested and j.claimed_at < now() - interval '1 minute'
union all
select 'suspect', ops.job_name(j.job_id), m.name, j.created_at, format('%s of its workers vanished; at %s it fails', j.interruptions, j.interruptions_max),
       format('select * from ops.attempts where job_id = %L order by number;', j.job_id)
from live_jobs j join models m using (model_id)
where j.interruptions > 0;
comment on view ops.stuck is 'What an operator should look at, with the reason; empty when all is well.';
comment on column ops.stuck.what is 'model paused, no worker, long wait, worker lost, attempt too long, overdue, cancel ignored or suspect.';
comment on column ops.stuck.subject is 'The model, or the id of the job as clients see it.';
comment on column ops.stuck.model is 'Name of the model.';
comment on column ops.stuck.since is 'Since when, as far as it is known.';
comment on column ops.stuck.reason is 'What is wrong, in words.';
comment on column ops.stuck.next_step is 'A statement to run next, or what to do.';

create view ops.latency as
select m.name as model, l.stage, l.period, l.jobs, l.ms[1] as p50_ms, l.ms[2] as p90_ms, l.ms[3] as p99_ms, l.ms[4] as max_ms
from (
    select f.model_id, stage.key as stage, date_bin('5 minutes', f.finished_at, '2000-01-01 00:00:00+00') as period, count(*) as jobs,
           percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by stage.value::float8) as ms
    from finished_jobs f cross join lateral jsonb_each_text(f.timings) stage
    where f.state = 'succeeded' and f.finished_at > now() - interval '24 hours' and f.job_id >= uuid_from_time(now() - interval '2 days')
    group by 1, 2, 3
) l join models m using (model_id);
comment on view ops.latency is 'Percentiles of jobs that succeeded in the last 24 hours and were made in the last two days. Reads them all: a day of millions takes seconds.';
comment on column ops.latency.model is 'Name of the model.';
comment on column ops.latency.stage is 'queue, fetch, decode, preprocess, batch_wait, infer, postprocess, complete, or total: from submit to result.';
comment on column ops.latency.period is 'Begin of five minutes in which they ended.';
comment on column ops.latency.jobs is 'Jobs that the percentiles are of.';
comment on column ops.latency.p50_ms is 'Half of them took no longer, in milliseconds.';
comment on column ops.latency.p90_ms is 'Nine of ten took no longer, in milliseconds.';
comment on column ops.latency.p99_ms is '99 of a hundred took no longer, in milliseconds.';
comment on column ops.latency.max_ms is 'The slowest, in milliseconds.';

create view ops.errors as
select f.problem ->> 'code' as code, m.name as model, (f.finished_at at time zone 'UTC')::date as day, f.state::text as status,
       count(*) as jobs, max(f.finished_at) as latest_at, max(ops.job_name(f.job_id)) as example
from finished_jobs f join models m using (model_id)
where f.state in ('failed', 'expired') and f.job_id >= uuid_from_time(now() - interval '30 days')
group by 1, 2, 3, 4;
comment on view ops.errors is 'Jobs that failed or expired, of those made in the last 30 days.';
comment on column ops.errors.code is 'Code of the problem: docs/problems.md has a page for each.';
comment on column ops.errors.model is 'Name of the model.';
comment on column ops.errors.day is 'Day on which they ended, in UTC.';
comment on column ops.errors.status is 'failed or expired.';
comment on column ops.errors.jobs is 'How many.';
comment on column ops.errors.latest_at is 'When the latest of them ended.';
comment on column ops.errors.example is 'Id of one of them, the latest made.';

create view ops.usage as
select f.owner, m.name as model, (f.finished_at at time zone 'UTC')::date as day, count(*) as jobs,
       count(*) filter (where f.state = 'succeeded') as succeeded,
       coalesce(sum(i.bytes), 0)::bigint as image_bytes,
       coalesce(sum((f.timings ->> 'infer')::float8 / greatest(f.forward_batch_size, 1)) / 1000, 0) as infer_seconds,
       coalesce(sum(extract(epoch from f.finished_at - f.claimed_at)), 0)::float8 as attempt_seconds
from finished_jobs f join models m using (model_id) left join images i on i.owner = f.owner and i.sha256 = f.image_sha256
where f.job_id >= uuid_from_time(now() - interval '31 days')
group by 1, 2, 3;
comment on view ops.usage is 'What each owner used, by finished jobs that were made in the last 31 days and not pruned since. Reads them all: millions take seconds.';
comment on column ops.usage.owner is 'Whose jobs.';
comment on column ops.usage.model is 'Name of the model.';
comment on column ops.usage.day is 'Day on which they ended, in UTC.';
comment on column ops.usage.jobs is 'Jobs that ended, however they did.';
comment on column ops.usage.succeeded is 'Jobs that succeeded.';
comment on column ops.usage.image_bytes is 'Bytes of their images, each counted once a job.';
comment on column ops.usage.infer_seconds is 'Seconds of the device: each job''s share of its forward pass.';
comment on column ops.usage.attempt_seconds is 'Seconds from claim to end of the last attempts; those of one batch overlap.';

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
-- Time in which a worker held at least one job of the model: its attempts overlap, so each counts from where the others end.
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
comment on column ops.scaling.work_seconds is 'How long one worker would take for what is queued and running; divide by your own target if 30 seconds is not it.';
comment on column ops.scaling.live_workers is 'Workers that run the model and are not leaving.';
comment on column ops.scaling.desired_workers is 'Workers that would end the backlog in 30 seconds and keep up with the arrivals; 0 if there is nothing to do or the model is paused.';
comment on column ops.scaling.paused is 'Whether workers leave this model alone.';

-- Sees other logins' snapshots as far as the owner of the schema may (pg_read_all_stats lets it see all).
create function oldest_snapshot_seconds() returns float8
language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
    select coalesce(max(extract(epoch from clock_timestamp() - held.since)), 0)::float8
    from (select xact_start as since from pg_stat_activity
          where backend_xmin is not null and datname = current_database() and pid <> pg_backend_pid() and backend_type <> 'autovacuum worker'
          union all
          select prepared from pg_prepared_xacts where database = current_database()) held
$$;
comment on function oldest_snapshot_seconds is 'Age of the oldest snapshot that keeps dead rows from being vacuumed.';

create view ops.health as
with checked as (
    select 1 as place, 'oldest snapshot' as name, oldest_snapshot_seconds() as value, 'seconds' as unit, 60 as at_most, null::float8 as at_least,
           'Close it: claims slow down while dead rows cannot go. select pid, usename, xact_start, query from pg_stat_activity order by xact_start;' as advice
    union all
    select 2, 'dead rows of the queue', pg_stat_get_dead_tuples('live_jobs'::regclass), 'rows', 100000, null,
           'Vacuum cannot keep up, or an old snapshot holds it: see above. vacuum live_jobs;'
    union all
    select 3, 'queue wait p99', coalesce((
               select percentile_cont(0.99) within group (order by extract(epoch from claimed_at - run_at)) from finished_jobs
               where claimed_at is not null and finished_at > now() - interval '5 minutes' and job_id >= uuid_from_time(now() - interval '2 days')), 0),
           'seconds', 60, null, 'More workers: select * from ops.scaling;'
    union all
    select 4, 'partitions ahead', count(*), 'days', null, 1, 'Start an API or a worker: any of them makes them; its log says why not.'
    from pg_inherits h join pg_class c on c.oid = h.inhrelid
    where h.inhparent = 'finished_jobs'::regclass and c.relname > 'finished_jobs_' || to_char(now() at time zone 'UTC', 'YYYYMMDD') and c.relname ~ '\d{8}$'
    union all
    select 5, 'rows outside of partitions', (select count(*) from (select from finished_jobs_default limit 1000) f), 'rows', 0, null,
           'Their days cannot have a partition, and are not dropped at once: nothing is lost.'
    union all
    select 6, 'live workers', count(*), 'workers', null, case when exists (select from live_jobs) then 1 else 0 end, 'select * from ops.workers order by worker_id desc;'
    from workers where ended_at is null and lease_until > now()
    union all
    select 7, 'jobs of lost workers', count(*), 'jobs', 0, null, 'Start an API or a worker: any of them does the housekeeping.'
    from live_jobs j left join workers w using (worker_id)
    where j.state = 'running' and (w.worker_id is null or w.lease_until < now() - interval '5 seconds' or w.ended_at < now() - interval '5 seconds')
    union all
    select 8, 'overdue jobs', (select count(*) from (select from live_jobs where state = 'scheduled' and run_at < now() - interval '5 seconds' limit 1000) j), 'jobs', 0, null,
           'Start an API or a worker: any of them does the housekeeping.'
    union all
    select 9, 'connections used', 100.0 * count(*) / current_setting('max_connections')::int, 'percent', 80, null,
           'Fewer, or a pooler: select application_name, state, count(*) from pg_stat_activity group by 1, 2;'
    from pg_stat_activity where backend_type = 'client backend'
    union all
    select 10, 'transaction id age', age(datfrozenxid), 'transactions', 1000000000, null, 'Autovacuum is behind: vacuum freeze;'
    from pg_database where datname = current_database()
)
select name, value::float8, unit, coalesce(value <= at_most, true) and coalesce(value >= at_least, true) as ok, advice
from checked order by place;
comment on view ops.health is 'One row a check; where not ok, its advice.';
comment on column ops.health.name is 'What is checked.';
comment on column ops.health.value is 'What was found.';
comment on column ops.health.unit is 'What it is counted in.';
comment on column ops.health.ok is 'Whether that is as it should be.';
comment on column ops.health.advice is 'What to do where it is not.';

create view ops.audit as
select at, actor, role, verb, subject, arguments, outcome from audit;
comment on view ops.audit is 'Acts of operators, by SQL and by REST; what was refused is not among them.';
comment on column ops.audit.at is 'When.';
comment on column ops.audit.actor is 'The login, or api key and its id.';
comment on column ops.audit.role is 'The role it had taken on, else the login again.';
comment on column ops.audit.verb is 'Which function: cancel, retry, retry_failed, set_priority, pause, resume, drain, purge, enqueue.';
comment on column ops.audit.subject is 'Id of the job as clients see it, name of the model, or number of the worker.';
comment on column ops.audit.arguments is 'What else was given.';
comment on column ops.audit.outcome is 'What the function answered.';
