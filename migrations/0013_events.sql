-- What happened to jobs and batches, as rows of the same transaction: the feed of those who were not there (docs/adr/0011-events.md).

create sequence event_numbers;

-- One row for all jobs of an owner that one statement ended in one way: a completion of hundreds costs one row.
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
create index events_by_owner on events (owner, xact, event_no);
comment on table  events is 'What happened to jobs and batches; written by publish_ends and publish_event alone, in the transaction that it is about.';
comment on column events.xact is 'The writing transaction. Readers go by it, and only below the oldest one that still runs: no event comes late.';
comment on column events.job_ids is 'The jobs that ended so in one statement; empty if it is about a batch.';

create function publish_ends() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, job_ids) select e.owner, 'job.' || e.state, array_agg(e.job_id) from ended e group by e.owner, e.state;
    return null;
end $$;
comment on function publish_ends is 'The one place where the end of a job becomes an event: whichever verb archives it.';
create trigger publish_ends after insert on finished_jobs referencing new table as ended
    for each statement execute function publish_ends();

create function publish_event(owner text, type text, batch_id uuid, webhook_url text default null) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, batch_id) values (publish_event.owner, publish_event.type, publish_event.batch_id);
end $$;
comment on function publish_event is 'Says that something happened to a batch; belongs to the statement that makes it so.';

create function make_event_partitions(days_ahead int) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
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
            made := made + 1;
        exception when check_violation then
            raise warning '% was not made: the default partition has rows of that day', child;
        end;
    end loop;
    return made;
end $$;
comment on function make_event_partitions is 'As make_partitions, for events.';
select make_event_partitions(3);

create function prune_events(kept interval) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
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
comment on function prune_events is 'Drops days whose events were kept long enough; any process may call it at any time.';

create view ops.events as
select format('evt_%s-%s-%s-%s', e.xact, e.event_no, coalesce(j.place, 0), floor(extract(epoch from e.at))) as id, e.type, e.owner, e.at, j.job_id,
       case when e.batch_id is not null then 'batch_' || replace(e.batch_id::text, '-', '') end as batch_id
from events e left join lateral unnest(e.job_ids) with ordinality as j(job_id, place) on true;
comment on view ops.events is 'What happened to jobs and batches; what GET /v1/events tells their owners.';
comment on column ops.events.id is 'As clients see it, and send it back to go on from there.';
comment on column ops.events.type is 'job.succeeded, job.failed, job.canceled, job.expired or batch.completed.';
comment on column ops.events.owner is 'Whose job or batch.';
comment on column ops.events.at is 'When the transaction began that made it so.';
comment on column ops.events.job_id is 'The job; empty if it is about a batch.';
comment on column ops.events.batch_id is 'The batch, as clients see it; empty if it is about a job.';

-- In a function of its own, which grant_privileges ends with: two migrations that both add lines need not know of each other.
create function grant_event_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    revoke execute on function publish_ends(), publish_event(text, text, uuid, text), make_event_partitions(int), prune_events(interval), grant_event_privileges() from public;
    if to_regrole('darkroom_api') is not null then
        grant select on events to darkroom_api;
        grant execute on function make_event_partitions(int), prune_events(interval), publish_event(text, text, uuid, text) to darkroom_api;
    end if;
    if to_regrole('darkroom_worker') is not null then
        grant execute on function make_event_partitions(int), publish_event(text, text, uuid, text) to darkroom_worker;
    end if;
end $$;
comment on function grant_event_privileges is 'The part of grant_privileges that is about events.';
do $$ begin
    execute regexp_replace(pg_get_functiondef('grant_privileges()'::regprocedure), 'end \$function\$', E'    perform grant_event_privileges();\nend $function$');
end $$;
select grant_privileges();
