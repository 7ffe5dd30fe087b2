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
    if pg_is_in_recovery() or exists (select from event_epoch e where e.cluster_id = here) then
        return false;
    end if;
    set local lock_timeout = '5s';
    -- One process adopts; the others then find nothing to do.
    select e.epoch into was from event_epoch e where e.cluster_id <> here for update;
    if not found then
        return false;
    end if;
    -- Also larger than the epoch of cursors that clients have from a later life of this dump.
    next := greatest(was + 1, extract(epoch from clock_timestamp())::bigint);
    execute format('alter table events alter column epoch set default %s', next);
    -- A row that was written here since the restore has the id of its own transaction. The others came by the restore.
    update events e set epoch = next
    where e.epoch = was and (e.xact::text::numeric % 4294967296)::bigint = e.xmin::text::bigint;
    update event_epoch e set epoch = next, cluster_id = here;
    perform make_roles(), grant_privileges();
    return true;
end $$;
comment on function adopt_cluster is 'After a restore into another cluster: begins a new epoch of events, and makes missing roles and grants. Answers whether there was anything to do. Any process may call it at any time.';

select grant_privileges();
