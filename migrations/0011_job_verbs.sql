-- What owners and operators do to jobs: one function a verb. REST and schema `ops` both call them. retry_job stands beside settle.
-- In plpgsql each statement sees what was committed before it began, so a verb that loses a race looks again.

-- Takes the position behind everything that the owner has queued at this priority. SQL callers have lanes of their own, whose
-- names no owner can have: an open transaction of psql must not block the API's submits.
create function take_place(model_id bigint, priority smallint, owner text) returns bigint
language sql set search_path = pg_catalog, public, pg_temp as $$
    insert into lanes as l (model_id, priority, owner, next_seq, taken)
    select $1, $2, $3 || '/sql', 1 + greatest(
               (select o.next_seq from lanes o where o.model_id = $1 and o.priority = $2 and o.owner = $3),
               coalesce((select j.seq from live_jobs j where j.state = 'queued' and j.model_id = $1 and j.priority = $2
                         order by j.priority desc, j.seq limit 1),
                        (select max(o.next_seq) from lanes o where o.model_id = $1 and o.priority = $2),
                        0)), 1
    on conflict (model_id, priority, owner)
    do update set next_seq = greatest(l.next_seq, excluded.next_seq - 1) + 1, taken = 1
    returning next_seq
$$;
comment on function take_place is 'Takes and answers the position of one more job of an owner at a priority of a model, in the fair order of queue/enqueue.sql.';

create function cancel_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    held live_jobs; ended job_state;
begin
    -- A claim, a release or an end of this job may come between two statements. Jobs move seldom, so a few looks suffice.
    for look in 1..4 loop
        update live_jobs j set cancel_requested = true, version = j.version + case when j.cancel_requested then 0 else 1 end
        where j.job_id = cancel_job.job and j.state = 'running' and (cancel_job.owner is null or j.owner = cancel_job.owner)
        returning j.* into held;
        if found then
            perform wake('darkroom_changed', replace(job::text, '-', '')), wake('darkroom_worker', held.worker_id::text);
            return 'requested';
        end if;
        select * into held from live_jobs j
        where j.job_id = cancel_job.job and j.state in ('queued', 'scheduled') and (cancel_job.owner is null or j.owner = cancel_job.owner);
        if found then
            -- Fenced: a claim between the two statements has another lease_no, and the next look requests the cancel.
            perform settle(array[job], array[held.lease_no], array['canceled']);
            if found then
                perform wake('darkroom_changed', replace(job::text, '-', ''));
                return 'canceled';
            end if;
        end if;
        select f.state into ended from finished_jobs f
        where f.job_id = cancel_job.job and (cancel_job.owner is null or f.owner = cancel_job.owner);
        if found then
            return 'was ' || ended;
        end if;
    end loop;
    return 'not found';
end $$;
comment on function cancel_job is 'Answers requested, canceled, was STATE, or not found. A waiting job ends at once. For a running job the cancel is requested, and the job ends when its worker gives it up.';

create function set_job_priority(job uuid, priority int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    j live_jobs; ended job_state;
begin
    if priority is null or priority not between -100 and 100 then
        raise exception 'priority % does not lie between -100 and 100', coalesce(priority::text, 'null') using errcode = 'invalid_parameter_value';
    end if;
    for look in 1..4 loop
        select * into j from live_jobs l where l.job_id = set_job_priority.job for no key update;
        if found then
            if j.state = 'running' then
                return 'running';
            elsif j.priority <> set_job_priority.priority then
                update live_jobs l set priority = set_job_priority.priority, version = l.version + 1,
                    seq = take_place(l.model_id, set_job_priority.priority::smallint, l.owner)
                where l.job_id = set_job_priority.job;
                perform wake('darkroom_changed', replace(job::text, '-', ''));
            end if;
            return 'set';
        end if;
        select f.state into ended from finished_jobs f where f.job_id = set_job_priority.job;
        if found then
            return 'was ' || ended;
        end if;
    end loop;
    return 'not found';
end $$;
comment on function set_job_priority is 'Answers set, running, was STATE or not found. The job goes to the end of its owner''s lane at that priority.';

create function problem_code_only(problem jsonb) returns jsonb language sql immutable parallel safe
    as $$ select case when problem is not null then jsonb_build_object('code', problem -> 'code') end $$;
comment on function problem_code_only is 'What a purge leaves of a problem: the code, for statistics, and no word about the image.';

create function purge_finished(ids uuid[]) returns bigint language sql as $$
    with purged as (
        update finished_jobs f
        set purged_at = now(), version = f.version + 1, result = null, params = '{}', metadata = '{}', trace_parent = null,
            problem = problem_code_only(f.problem), input_warnings = null, purged_object = f.result ->> 'object_key'
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
        -- Locks the images in the order in which submits lock them.
        select i.owner, i.sha256, r.jobs as fewer from images i join released r on i.owner = r.owner and i.sha256 = r.image_sha256
        order by i.owner, i.sha256 for no key update of i
    ),
    counted as (
        update images i set jobs = i.jobs - m.fewer, unused_since = case when i.jobs = m.fewer then now() end
        from image m where i.owner = m.owner and i.sha256 = m.sha256
    )
    select count(*) from purged
$$;
comment on function purge_finished is 'Deletes result, parameters, metadata, warnings and details of problems of finished jobs. Answers how many jobs it purged. The rows stay as tombstones, and an image without jobs is collected after a grace period.';

create function purge_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    for look in 1..4 loop
        if exists (select from finished_jobs f where f.job_id = purge_job.job and (purge_job.owner is null or f.owner = purge_job.owner)) then
            if purge_finished(array[job]) > 0 then
                perform wake('darkroom_changed', replace(job::text, '-', ''));
                return 'purged';
            elsif exists (select from finished_jobs f where f.job_id = purge_job.job and f.purged_at is not null) then
                return 'purged';
            end if;
        elsif exists (select from live_jobs j where j.job_id = purge_job.job and (purge_job.owner is null or j.owner = purge_job.owner)) then
            return 'not terminal';
        end if;
    end loop;
    return 'not found';
end $$;
comment on function purge_job is 'Answers purged, not terminal or not found. A second call changes nothing.';
