-- Contract: what an operator should look at.

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
comment on view ops.stuck is 'What an operator should look at, with the reason; no rows when all is well.';
comment on column ops.stuck.what is 'model paused, no worker, long wait, worker lost, attempt too long, overdue, cancel ignored or suspect.';
comment on column ops.stuck.subject is 'The model, or the id of the job as clients see it.';
comment on column ops.stuck.model is 'Name of the model.';
comment on column ops.stuck.since is 'Since when, as far as known.';
comment on column ops.stuck.reason is 'What is wrong, in words.';
comment on column ops.stuck.next_step is 'A statement to run next, or what to do.';

-- Sees other logins' snapshots as far as the owner of the schema may (pg_read_all_stats shows all).
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
    union all
    select 11, 'multixact id age', mxid_age(datminmxid), 'multixacts', 1000000000, null, 'Autovacuum is behind: vacuum freeze;'
    from pg_database where datname = current_database()
    union all
    select 12, 'notification queue', 100 * pg_notification_queue_usage(), 'percent', 50, null,
           'A session that listens stays in a transaction; end it. select pid, usename, state, xact_start, query from pg_stat_activity where state <> ''idle'' order by xact_start;'
    union all
    select 13, 'WAL held by slots', coalesce(max(pg_wal_lsn_diff(
               case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, restart_lsn)), 0) / 1048576,
           'MiB', 10240, null, 'A replication slot has no reader: start it, or select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active;'
    from pg_replication_slots
    union all
    select 14, 'age of slots', coalesce(max(greatest(age(xmin), age(catalog_xmin))), 0), 'transactions', 50000000, null,
           'A replication slot keeps dead rows from being vacuumed: see "WAL held by slots".'
    from pg_replication_slots
    union all
    select 15, 'takes writes', case when pg_is_in_recovery() then 0 else 1 end, 'server', null, 1, 'This is a standby: connect to the primary.'
    union all
    select 16, 'events of another cluster', count(*), 'restore', 0, null,
           'The database was restored: start an API or a worker, or run as the owner of the schema: select adopt_cluster();'
    from event_cluster e where e.cluster_id <> cluster_id()
    union all
    select 17, 'missing roles', count(*) filter (where to_regrole(r.role) is null), 'roles', 0, null,
           'An administrator runs as the owner of the schema: select make_roles(), grant_privileges();'
    from unnest(array['darkroom_reader', 'darkroom_operator', 'darkroom_worker', 'darkroom_api']) as r(role)
    union all
    select 18, 'workers without their images', count(*), 'workers', 0, null,
           'Their bucket lacks what the database says was stored. Compare DARKROOM_S3_BUCKET and the endpoint with those of the API: select worker_id, name, store_fault from ops.workers where store_fault is not null;'
    from workers where ended_at is null and lease_until > now() and store_fault is not null
    union all
    select 19, 'damaged images', (select count(*) from (select from images where reported_at is not null and damaged_at is not null and purged_at is null limit 1000) i), 'images', 0, null,
           'The bucket lost them or has other bytes. Restore the objects, or submit the images again. Their jobs wait uncharged, and fail after a day (--lost-image-hours).'
    union all
    select 20, 'processes without their bucket', count(*), 'processes', 0, null,
           coalesce(string_agg(format('%s %s: %s', program, process, fault), '; ' order by program, process), 'See docs/s3.md.')
    from bucket_checks where fault is not null and checked_at > now() - interval '10 minutes'
    union all
    select 21, 'missing rights on the bucket', count(distinct missing), 'rights', 0, null,
           coalesce('Grant ' || string_agg(distinct missing, ', ') || ': see docs/s3.md.', 'See docs/s3.md.')
    from bucket_checks, unnest(missing_rights) missing where checked_at > now() - interval '10 minutes'
)
select name, value::float8, unit, coalesce(value <= at_most, true) and coalesce(value >= at_least, true) as ok, advice
from checked order by place;
comment on view ops.health is 'One row per check, with advice for a check that is not ok.';
comment on column ops.health.name is 'What is checked.';
comment on column ops.health.value is 'The measured value.';
comment on column ops.health.unit is 'Unit of the value.';
comment on column ops.health.ok is 'Whether the value is within its limits.';
comment on column ops.health.advice is 'What to do if the check is not ok.';
