-- The end of a batch is news: `batch.completed`, in the statement that ends it. A batch that a retry opened again ends again.
create or replace function finish_batch(which uuid) returns boolean
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    whose text;
begin
    -- Whoever makes one of its jobs live again (retry_job) holds this row until the commit: what is looked at below is
    -- looked at anew under the lock, and can only move towards the end.
    perform from batches g where g.batch_id = which and g.sealed_at is not null and g.finished_at is null for no key update skip locked;
    if not found or exists (select from live_jobs j where j.batch_id = which) then
        return false;
    end if;
    update batches g
    set finished_at = now(), succeeded = c.succeeded, failed = c.failed, canceled = c.canceled, expired = c.expired
    from (
        select count(*) filter (where f.state = 'succeeded') as succeeded, count(*) filter (where f.state = 'failed') as failed,
               count(*) filter (where f.state = 'canceled') as canceled, count(*) filter (where f.state = 'expired') as expired
        from finished_jobs f
        where f.batch_id = which
          and f.job_id >= (select uuid_from_time(o.created_at - interval '1 hour') from batches o where o.batch_id = which)
    ) c
    where g.batch_id = which
    returning g.owner into whose;
    perform publish_event(whose, 'batch.completed', which);
    return true;
end $$;

create function grant_view_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    reader text;
begin
    revoke execute on function with_waits(jsonb, timestamptz, timestamptz, timestamptz, timestamptz), grant_view_privileges() from public;
    foreach reader in array array['darkroom_reader', 'darkroom_operator', 'darkroom_api'] loop
        if to_regrole(reader) is not null then
            execute format('grant execute on function with_waits(jsonb, timestamptz, timestamptz, timestamptz, timestamptz) to %I', reader);
        end if;
    end loop;
end $$;
comment on function grant_view_privileges is 'The part of grant_privileges that is about functions which views of ops call.';

-- 0013 had its part called at the end of a function that 0011 and 0015 have moved since.
create or replace function grant_privileges_on_jobs() returns void
language sql set search_path = pg_catalog, public, pg_temp as $$
    select grant_base_privileges();
    select grant_batch_privileges();
    select grant_event_privileges();
    select grant_view_privileges();
$$;
comment on function grant_privileges_on_jobs is 'The part of grant_privileges that is older than API keys in REST, and what came to it since.';

select grant_privileges();
