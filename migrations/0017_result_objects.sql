-- Results that are objects in the bucket: `result` names one as `object_key`, and it goes with the job.

alter table finished_jobs add column purged_object text;
create index finished_jobs_purged_objects on finished_jobs (job_id) where purged_object is not null;
comment on column finished_jobs.purged_object is 'The object of a result that was purged, until somebody has deleted it from the bucket.';

-- As in 0009, and remembers the object.
create or replace function purge_finished(ids uuid[]) returns bigint language sql as $$
    with purged as (
        update finished_jobs f
        set purged_at = now(), version = f.version + 1, result = null, params = '{}', metadata = '{}', trace_parent = null,
            problem = problem_code_only(f.problem), purged_object = f.result ->> 'object_key'
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
