-- Ids that begin with their time, and the daily partitions of finished jobs that follow from them.

create function uuid_from_time(at timestamptz) returns uuid language sql immutable strict parallel safe as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
comment on function uuid_from_time is 'The smallest UUIDv7 of an instant: the bound of a day''s partition.';

-- uuidv7() exists only since PostgreSQL 18.
create function new_job_id() returns uuid language sql volatile set search_path = pg_catalog, public, pg_temp as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
               placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;
comment on function new_job_id is 'A UUIDv7 of this moment.';

-- A day is a day of UTC, whatever the time zone of the session.
create function make_partitions(days_ahead int) returns int
language plpgsql security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    day date; made int := 0; parent text; child text;
begin
    -- One maker at a time; the second one finds that the partitions exist.
    perform pg_advisory_xact_lock(hashtext('darkroom.make_partitions'));
    for day in select generate_series(current_date, current_date + days_ahead, interval '1 day')::date loop
        foreach parent in array array['finished_jobs', 'attempts'] loop
            child := parent || to_char(day, '_YYYYMMDD');
            if to_regclass(child) is null then
                begin
                    execute format('create table %I partition of %I for values from (%L) to (%L)', child, parent,
                        uuid_from_time(day::timestamp at time zone 'UTC'), uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
                    made := made + 1;
                exception when check_violation then
                    -- Rows of that day came before its partition and stay in the default partition. The other days are still made.
                    raise warning '% was not made: the default partition has rows of that day', child;
                end;
            end if;
        end loop;
    end loop;
    return made;
end $$;
comment on function make_partitions is 'Makes the daily partitions of finished_jobs and attempts, from today to days_ahead days ahead. Answers how many it made. Any process may call it at any time.';

select make_partitions(3);

create function prune_partitions(tombstone_age interval) returns int
language plpgsql security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    child text; day date; pruned int := 0; needed boolean;
begin
    perform pg_advisory_xact_lock(hashtext('darkroom.make_partitions'));
    -- A drop waits for every reader of the table, and all other statements wait behind the drop. So it gives up soon; the
    -- next call tries again.
    set local lock_timeout = '1s';
    for child in
        select c.relname from pg_inherits h join pg_class c on c.oid = h.inhrelid
        where h.inhparent = 'finished_jobs'::regclass and c.relname ~ '^finished_jobs_\d{8}$' order by c.relname
    loop
        day := to_date(right(child, 8), 'YYYYMMDD');
        continue when (day + 1)::timestamp at time zone 'UTC' > now() - tombstone_age;
        execute format('select exists (select from %I where purged_at is null or purged_at > now() - $1)', child)
            into needed using tombstone_age;
        -- While a job of that day is live, its attempts stay.
        needed := needed or exists (
            select from live_jobs where job_id >= uuid_from_time(day::timestamp at time zone 'UTC')
                                    and job_id < uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
        continue when needed;
        begin
            execute format('drop table if exists %I, %I', child, 'attempts' || right(child, 9));
            pruned := pruned + 1;
        exception when lock_not_available then
            null;
        end;
    end loop;
    return pruned;
end $$;
comment on function prune_partitions is 'Drops the daily partitions that hold only tombstones older than tombstone_age. Answers how many days it dropped. Any process may call it at any time.';
