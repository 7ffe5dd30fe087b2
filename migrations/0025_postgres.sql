-- What the schema does when Postgres itself is in trouble, or is another one.

-- With a full queue of NOTIFY the commit would fail, and with it the change that the notification is about.
create function wake(channel text, payload text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if pg_notification_queue_usage() < 0.9 then
        perform pg_notify(channel, payload);
    end if;
end $$;
comment on function wake is 'Sends a notification at the commit, if the queue of notifications has room. A wake-up only saves time: all who wait also poll.';

create function adopt_cluster() returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    here constant text := cluster_id(); was bigint; next bigint;
begin
    if pg_is_in_recovery() or exists (select from event_cluster c where c.cluster_id = here) then
        return false;
    end if;
    set local lock_timeout = '5s';
    -- One process adopts; the others then find nothing to do.
    select c.xact_offset into was from event_cluster c where c.cluster_id <> here for update;
    if not found then
        return false;
    end if;
    -- Larger than all ids before, those of lost events in the cursors of clients too: grows by 2^38 a minute.
    next := (extract(epoch from clock_timestamp() - timestamptz '2020-01-01 00:00:00+00') / 60)::bigint << 38;
    next := greatest(next, was + (1::bigint << 38));
    execute format('alter table events alter column xact set default (pg_current_xact_id()::text::bigint + %s)::text::xid8', next);
    -- A row that was written here since the restore has the id of its own transaction. The others came by the restore.
    update events e set xact = (e.xact::text::bigint - was + next)::text::xid8
    where e.at > now() - interval '1 day' and e.xact::text::bigint >= was and (e.xact::text::bigint - was) % 4294967296 = e.xmin::text::bigint;
    update event_cluster c set xact_offset = next, cluster_id = here;
    perform make_roles(), grant_privileges();
    return true;
end $$;
comment on function adopt_cluster is 'After a restore into another cluster: keeps the events readable and in order, and makes missing roles and grants. Answers whether there was anything to do. Any process may call it at any time.';

select grant_privileges();
