-- `job.started`, which the contract promised and nobody sent: one row for all jobs of an owner that one claim began. A job's own
-- webhook hears of its end alone.
create function publish_starts(jobs uuid[], owners text[]) returns void
language plpgsql strict security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, job_ids)
    select s.owner, 'job.started', array_agg(s.job_id) from unnest(jobs, owners) as s(job_id, owner) group by s.owner;
    -- Where nobody wants to be told, that is all it costs.
    if exists (select from webhook_endpoints w where w.disabled_at is null and 'job.started' = any(w.events)) then
        insert into webhook_deliveries (owner, endpoint_id, url, type, job_id)
        select s.owner, w.endpoint_id, w.url, 'job.started', s.job_id
        from unnest(jobs, owners) as s(job_id, owner)
        join webhook_endpoints w on w.owner = s.owner and w.disabled_at is null and 'job.started' = any(w.events);
    end if;
end $$;
comment on function publish_starts is 'Says that a worker began these jobs; belongs to the statement that claims them.';
comment on column ops.events.type is 'job.started, job.succeeded, job.failed, job.canceled, job.expired or batch.completed.';

create or replace function grant_view_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    reader text;
begin
    revoke execute on function with_waits(jsonb, timestamptz, timestamptz, timestamptz, timestamptz), publish_starts(uuid[], text[]),
        grant_view_privileges() from public;
    foreach reader in array array['darkroom_reader', 'darkroom_operator', 'darkroom_api'] loop
        if to_regrole(reader) is not null then
            execute format('grant execute on function with_waits(jsonb, timestamptz, timestamptz, timestamptz, timestamptz) to %I', reader);
        end if;
    end loop;
    if to_regrole('darkroom_worker') is not null then
        grant execute on function publish_starts(uuid[], text[]) to darkroom_worker;
    end if;
end $$;
comment on function grant_view_privileges is 'The part of grant_privileges that is about functions which statements and views of ops call.';
select grant_privileges();
