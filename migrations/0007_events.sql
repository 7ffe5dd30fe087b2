-- Events: what happened to jobs and batches, as rows of the transaction that made it happen (docs/adr/0011-events.md).

create sequence event_numbers;

create function cluster_id() returns text language sql stable set search_path = pg_catalog, pg_temp as $$
    select system_identifier::text from pg_control_system()
$$;
comment on function cluster_id is 'Names the cluster: a restored dump finds itself in another one.';

-- Transaction ids count from the beginning of their cluster. After a restore into a younger cluster the ids of restored events
-- lie in the future. So adopt_cluster() adds an offset to the ids of later events, and the order of the feed goes on.
create table event_cluster (
    cluster_id  text not null default cluster_id(),
    xact_offset bigint not null default 0,
    is_one      boolean primary key default true check (is_one)
);
insert into event_cluster default values;
comment on table  event_cluster is 'One row: the cluster that writes the events of now.';
comment on column event_cluster.xact_offset is 'What this cluster adds to its transaction ids in events.xact; 0 if the database was never restored elsewhere.';

-- One row for all jobs of an owner that one statement ended in one way: a completion of hundreds of jobs writes one row.
create table events (
    event_no bigint not null default nextval('event_numbers'),
    xact     xid8 not null default pg_current_xact_id(),
    owner    text not null,
    type     text not null,
    at       timestamptz not null default now(),
    job_ids  uuid[] not null default '{}',
    batch_id uuid,
    constraint of_jobs_or_of_a_batch check ((batch_id is null) = (cardinality(job_ids) > 0))
) partition by range (at);
create table events_default partition of events default;
-- Ids do not compress: trying to costs 4 % of a drain.
alter table events alter column job_ids set storage external;
create index events_by_owner on events (owner, xact, event_no);
-- A publication for all tables would refuse to delete from a table without a key. Written to the WAL only if it is logical.
alter table events replica identity full;
alter table events_default replica identity full;
comment on table  events is 'What happened to jobs and batches. Only publish_starts, settle and publish_event write it, in the transaction of the change.';
comment on column events.xact is 'The writing transaction, plus the offset of its cluster (adopt_cluster() changes the default). Readers read in this order and stop below the oldest transaction that still runs, so no event comes late.';
comment on column events.job_ids is 'The jobs that one statement started or ended; empty for an event of a batch.';

create function make_event_partitions(days_ahead int) returns int
language plpgsql security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    day date; made int := 0; child text;
begin
    perform pg_advisory_xact_lock(hashtext('darkroom.make_partitions'));
    for day in select generate_series(current_date, current_date + days_ahead, interval '1 day')::date loop
        child := 'events' || to_char(day, '_YYYYMMDD');
        continue when to_regclass(child) is not null;
        begin
            execute format('create table %I partition of events for values from (%L) to (%L)', child,
                day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
            execute format('alter table %I replica identity full', child);
            made := made + 1;
        exception when check_violation then
            raise warning '% was not made: the default partition has rows of that day', child;
        end;
    end loop;
    return made;
end $$;
comment on function make_event_partitions is 'Makes the daily partitions of events, as make_partitions does for finished jobs.';

select make_event_partitions(3);

create function prune_events(kept interval) returns int
language plpgsql security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    child text; pruned int := 0;
begin
    perform pg_advisory_xact_lock(hashtext('darkroom.make_partitions'));
    set local lock_timeout = '1s';
    for child in
        select c.relname from pg_inherits h join pg_class c on c.oid = h.inhrelid
        where h.inhparent = 'events'::regclass and c.relname ~ '^events_\d{8}$' order by c.relname
    loop
        continue when (to_date(right(child, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' > now() - kept;
        begin
            execute format('drop table if exists %I', child);
            pruned := pruned + 1;
        exception when lock_not_available then
            null;
        end;
    end loop;
    delete from events_default where at < now() - kept;
    return pruned;
end $$;
comment on function prune_events is 'Drops the daily partitions whose events are older than kept. Answers how many it dropped. Any process may call it at any time.';

create function publish_starts(jobs uuid[], owners text[]) returns void
language plpgsql strict security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, job_ids)
    select s.owner, 'job.started', array_agg(s.job_id) from unnest(jobs, owners) as s(job_id, owner) group by s.owner;
    -- Without receivers, this check is the only cost of webhooks.
    if exists (select from webhook_endpoints w where w.disabled_at is null and 'job.started' = any(w.events)) then
        insert into webhook_deliveries (owner, endpoint_id, url, type, job_id)
        select s.owner, w.endpoint_id, w.url, 'job.started', s.job_id
        from unnest(jobs, owners) as s(job_id, owner)
        join webhook_endpoints w on w.owner = s.owner and w.disabled_at is null and 'job.started' = any(w.events);
    end if;
end $$;
comment on function publish_starts is 'Writes job.started for jobs that a worker claimed: one row per owner. The statement that claims the jobs calls it. The webhook of a job itself is told only of the end.';

create function publish_event(owner text, type text, batch_id uuid, webhook_url text default null) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, batch_id) values (publish_event.owner, publish_event.type, publish_event.batch_id);
    insert into webhook_deliveries (owner, endpoint_id, url, type, batch_id)
    select publish_event.owner, w.endpoint_id, w.url, publish_event.type, publish_event.batch_id
    from webhook_endpoints w
    where w.owner = publish_event.owner and w.disabled_at is null and publish_event.type = any(w.events)
    union all
    select publish_event.owner, null, publish_event.webhook_url, publish_event.type, publish_event.batch_id
    where publish_event.webhook_url is not null;
end $$;
comment on function publish_event is 'Writes an event of a batch and its deliveries. The statement that changes the batch calls it.';
