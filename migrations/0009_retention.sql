-- Retention: how long data stays, what refers to an image, and what became of objects that nobody needs.

-- Every upload has an object of its own. One that is being deleted and one that just came in can then never be the same
-- object, however the two race; the row decides which of them is the image.
alter table images
    add column upload uuid not null default '00000000-0000-0000-0000-000000000000',
    add column jobs bigint not null default 0,
    add column unused_since timestamptz,
    add constraint counted_by_its_jobs check (jobs >= 0);
comment on column images.upload is 'Names the object within owner and digest; nil: uploaded before uploads had names.';
comment on column images.jobs is 'Jobs with this input whose data was not purged: the image stays for as long as there is one.';
comment on column images.unused_since is 'When the last of its jobs was purged, or somebody asked for it since; collected after a grace.';
create index images_unused on images (unused_since) where unused_since is not null and purged_at is null;

update images i set jobs = counted.jobs
from (
    select owner, image_sha256, count(*) as jobs
    from (select owner, image_sha256 from live_jobs
          union all select owner, image_sha256 from finished_jobs where purged_at is null) job
    group by owner, image_sha256
) counted
where counted.owner = i.owner and counted.image_sha256 = i.sha256;
update images set unused_since = now() where jobs = 0;

alter table live_jobs add column image_upload uuid not null default '00000000-0000-0000-0000-000000000000';
comment on column live_jobs.image_upload is 'Which object holds the input: images.upload at submit.';

create index finished_jobs_retained on finished_jobs (retain_until) where purged_at is null;
create index finished_jobs_purged on finished_jobs (purged_at) where purged_at is not null;

create table orphan_sweep (
    singleton boolean primary key default true check (singleton),
    after_key text not null default '',
    swept_at  timestamptz not null default now(),
    passes    bigint not null default 0
);
insert into orphan_sweep default values;
comment on table orphan_sweep is 'How far the search for objects without a row has come in the bucket; one process at a time moves it on.';

-- What is left of a problem whose job was purged: the code, for statistics; no word about the image.
create function problem_code_only(problem jsonb) returns jsonb language sql immutable parallel safe
    as $$ select case when problem is not null then jsonb_build_object('code', problem -> 'code') end $$;

-- Deletes what finished jobs were about: result, parameters, metadata, details of problems. The rows stay as tombstones.
-- An image that none of them needs any more is collected after a grace. Answers how many were purged.
create function purge_finished(ids uuid[]) returns bigint language sql as $$
    with purged as (
        update finished_jobs f
        set purged_at = now(), version = f.version + 1, result = null, params = '{}', metadata = '{}', trace_parent = null,
            problem = problem_code_only(f.problem)
        from unnest(ids) as due(job_id) where f.job_id = due.job_id and f.purged_at is null
        returning f.job_id, f.owner, f.image_sha256
    ),
    silenced as (
        update attempts a set problem = problem_code_only(a.problem)
        from purged p where a.job_id = p.job_id and a.problem is not null
    ),
    released as (
        select owner, image_sha256, count(*) as jobs from purged group by owner, image_sha256
    ),
    image as materialized (
        -- In the order in which submits lock them.
        select i.owner, i.sha256, r.jobs as fewer from images i join released r on i.owner = r.owner and i.sha256 = r.image_sha256
        order by i.owner, i.sha256 for no key update of i
    ),
    counted as (
        update images i set jobs = i.jobs - m.fewer, unused_since = case when i.jobs = m.fewer then now() end
        from image m where i.owner = m.owner and i.sha256 = m.sha256
    )
    select count(*) from purged
$$;
comment on function purge_finished is 'Deletes the data of finished jobs and leaves their rows as tombstones.';

-- Drops the daily partitions in which nothing is left but tombstones older than `tombstone_age`. Answers how many days went.
create function prune_partitions(tombstone_age interval) returns int language plpgsql security definer set search_path = public, pg_temp as $$
declare
    child text; day date; pruned int := 0; needed boolean;
begin
    perform pg_advisory_xact_lock(hashtext('darkroom.make_partitions'));
    -- Dropping waits for every reader of the table, and everyone else waits behind it: give up soon, and come again.
    set local lock_timeout = '1s';
    for child in
        select c.relname from pg_inherits h join pg_class c on c.oid = h.inhrelid
        where h.inhparent = 'finished_jobs'::regclass and c.relname ~ '^finished_jobs_\d{8}$' order by c.relname
    loop
        day := to_date(right(child, 8), 'YYYYMMDD');
        continue when (day + 1)::timestamp at time zone 'UTC' > now() - tombstone_age;
        execute format('select exists (select from %I where purged_at is null or purged_at > now() - $1)', child)
            into needed using tombstone_age;
        -- A job of that day that still waits keeps its attempts.
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
comment on function prune_partitions is 'Drops days of which only old tombstones are left; any process may call it at any time.';

select grant_privileges();
