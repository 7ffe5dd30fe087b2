-- Jobs that belong to a batch, and jobs that say where to send the news of their end: what the rows carry from submit to archive.

alter table live_jobs add column batch_id uuid, add column batch_line int, add column custom_id text, add column webhook_url text;
alter table finished_jobs add column batch_id uuid, add column batch_line int, add column custom_id text, add column webhook_url text;
create index live_jobs_by_batch on live_jobs (batch_id, batch_line) where batch_id is not null;
create index finished_jobs_by_batch on finished_jobs (batch_id, batch_line) where batch_id is not null;
comment on column live_jobs.batch_id is 'The batch that the job was submitted with.';
comment on column live_jobs.batch_line is 'Number of its line in the batch, from 1.';
comment on column live_jobs.custom_id is 'The client''s own name of the job within its batch.';
comment on column live_jobs.webhook_url is 'Where this job''s own news go.';

create or replace function cancel_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    outcome text; holder bigint;
begin
    -- A statement sees one moment: while it waits for a claim or a completion of the same job, the row may move to where
    -- that moment does not show it. A job moves seldom enough for a few more looks.
    for look in 1..4 loop
        with asked as (
            update live_jobs j set cancel_requested = true, version = j.version + case when j.cancel_requested then 0 else 1 end
            where j.job_id = cancel_job.job and j.state = 'running' and (cancel_job.owner is null or j.owner = cancel_job.owner)
            returning j.worker_id
        ),
        gone as (
            delete from live_jobs j
            where j.job_id = cancel_job.job and j.state in ('queued', 'scheduled') and (cancel_job.owner is null or j.owner = cancel_job.owner)
            returning j.*
        ),
        archived as (
            insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, created_at, run_at,
                                       deadline_at, retain_for, retain_until, lease_no, claimed_at, attempt_timeout_seconds, attempts_started, attempts_charged,
                                       attempts_max, interruptions, interruptions_max, trace_parent,
                                       batch_id, batch_line, custom_id, webhook_url, worker, device)
            select g.job_id, 'canceled', g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
                   g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, null,
                   g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions, g.interruptions_max,
                   g.trace_parent, g.batch_id, g.batch_line, g.custom_id, g.webhook_url, null, null
            from gone g
        ),
        came as (
            select 'requested' as what, worker_id from asked
            union all select 'canceled', null from gone
            union all select 'was ' || f.state, null from finished_jobs f
            where f.job_id = cancel_job.job and (cancel_job.owner is null or f.owner = cancel_job.owner)
        )
        select c.what, c.worker_id into outcome, holder from came c;
        if outcome is not null then
            if outcome in ('requested', 'canceled') then
                perform pg_notify('darkroom_changed', replace(job::text, '-', ''));
            end if;
            if holder is not null then
                perform pg_notify('darkroom_worker', holder::text);
            end if;
            return outcome;
        end if;
    end loop;
    return 'not found';
end $$;

create or replace function retry_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    ended finished_jobs; was record;
begin
    for look in 1..4 loop
        -- Of two retries at once, or a retry and a purge, the second waits here and then finds no such row.
        delete from finished_jobs f
        where f.job_id = retry_job.job and (retry_job.owner is null or f.owner = retry_job.owner)
          and f.state in ('failed', 'canceled', 'expired') and f.purged_at is null
          and exists (select from images i where i.owner = f.owner and i.sha256 = f.image_sha256 and i.purged_at is null)
        returning f.* into ended;
        if found then
            -- Every ended attempt stands in attempts already: the verb that ended the job wrote it there. attempts_max
            -- bounds the charged attempts from now on. Lost workers are not forgiven: a job that used up its interruptions
            -- gets one more, and stays a suspect that is tried alone.
            insert into live_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, image_upload,
                                   params, metadata, priority, seq, created_at, run_at, deadline_at, retain_for, lease_no,
                                   attempt_timeout_seconds, attempts_started, attempts_charged, attempts_max,
                                   interruptions, interruptions_max, trace_parent,
                                   batch_id, batch_line, custom_id, webhook_url)
            select ended.job_id, 'queued', ended.version + 1, ended.owner, ended.model_id, ended.model_version_id, ended.model_ref,
                   ended.image_sha256, i.upload, ended.params, ended.metadata, ended.priority,
                   take_place(ended.model_id, ended.priority, ended.owner), ended.created_at, now(),
                   case when ended.deadline_at > now() then ended.deadline_at end, ended.retain_for, ended.lease_no + 1,
                   ended.attempt_timeout_seconds, ended.attempts_started, 0, ended.attempts_max,
                   greatest(least(ended.interruptions, ended.interruptions_max - 1), 0), ended.interruptions_max, ended.trace_parent,
                   ended.batch_id, ended.batch_line, ended.custom_id, ended.webhook_url
            from images i where i.owner = ended.owner and i.sha256 = ended.image_sha256;
            perform pg_notify('darkroom_queued', ended.model_id::text), pg_notify('darkroom_changed', replace(job::text, '-', ''));
            return 'queued';
        end if;
        select f.state, f.purged_at is not null or not exists (
                   select from images i where i.owner = f.owner and i.sha256 = f.image_sha256 and i.purged_at is null) as without_input
        into was from finished_jobs f where f.job_id = retry_job.job and (retry_job.owner is null or f.owner = retry_job.owner);
        if found then
            if was.state = 'succeeded' then
                return 'succeeded';
            elsif was.without_input then
                return 'input purged';
            end if;
        elsif exists (select from live_jobs j where j.job_id = retry_job.job and (retry_job.owner is null or j.owner = retry_job.owner)) then
            return 'not terminal';
        end if;
    end loop;
    return 'not found';
end $$;

-- What a job waited is told by its times: kept once, in the row, and not again in what its worker measured.
create function with_waits(timings jsonb, created_at timestamptz, run_at timestamptz, claimed_at timestamptz, finished_at timestamptz) returns jsonb
language sql immutable parallel safe as $$
    select timings || jsonb_build_object('queue', round(extract(epoch from claimed_at - run_at) * 1000, 3),
                                         'total', round(extract(epoch from finished_at - created_at) * 1000, 3))
$$;
comment on function with_waits is 'Stage to milliseconds as the worker measured them, with queue and total; null without any.';

create or replace view ops.jobs as
select j.job_id, ops.job_name(j.job_id) as id, j.version, j.state::text as status, v.task, j.owner,
       j.model_ref as model, m.name as model_name, v.version as model_version, 'sha256:' || encode(v.digest, 'hex') as model_digest,
       'sha256:' || encode(j.image_sha256, 'hex') as image, i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at as started_at, null::timestamptz as finished_at,
       j.deadline_at as deadline, null::timestamptz as retain_until, j.cancel_requested, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       w.name as worker, w.device, null::jsonb as result, j.problem, null::jsonb as timings,
       null::smallint as batch_size, null::smallint as batch_position, j.trace_parent, null::timestamptz as purged_at,
       case when j.batch_id is not null then 'batch_' || replace(j.batch_id::text, '-', '') end as batch_id, j.batch_id as batch_uuid, j.batch_line, j.custom_id, j.webhook_url
from live_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256
left join workers w on w.worker_id = j.worker_id
union all
select j.job_id, ops.job_name(j.job_id), j.version, j.state::text, v.task, j.owner,
       j.model_ref, m.name, v.version, 'sha256:' || encode(v.digest, 'hex'),
       'sha256:' || encode(j.image_sha256, 'hex'), i.content_type, i.bytes, i.width, i.height,
       j.params, j.metadata, j.priority, j.created_at, j.run_at, j.claimed_at, j.finished_at,
       j.deadline_at, j.retain_until, false, j.lease_no,
       j.attempts_started, j.attempts_charged, j.attempts_max, j.interruptions, j.interruptions_max,
       j.worker, j.device, j.result, j.problem,
       with_waits(j.timings, j.created_at, j.run_at, j.claimed_at, j.finished_at),
       j.forward_batch_size, j.forward_batch_position, j.trace_parent, j.purged_at,
       case when j.batch_id is not null then 'batch_' || replace(j.batch_id::text, '-', '') end, j.batch_id, j.batch_line, j.custom_id, j.webhook_url
from finished_jobs j
join model_versions v using (model_version_id)
join models m on m.model_id = j.model_id
left join images i on i.owner = j.owner and i.sha256 = j.image_sha256;
comment on column ops.jobs.batch_id is 'The batch it was submitted with, as clients see it.';
comment on column ops.jobs.batch_uuid is 'batch_id as a uuid.';
comment on column ops.jobs.batch_line is 'Number of its line in the batch, from 1.';
comment on column ops.jobs.custom_id is 'The client''s own name of the job within its batch.';
comment on column ops.jobs.webhook_url is 'Where the news of this job are sent.';

create or replace view ops.latency as
select m.name as model, l.stage, l.period, l.jobs, l.ms[1] as p50_ms, l.ms[2] as p90_ms, l.ms[3] as p99_ms, l.ms[4] as max_ms
from (
    select f.model_id, stage.key as stage, date_bin('5 minutes', f.finished_at, '2000-01-01 00:00:00+00') as period, count(*) as jobs,
           percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by stage.value::float8) as ms
    from finished_jobs f cross join lateral jsonb_each_text(with_waits(f.timings, f.created_at, f.run_at, f.claimed_at, f.finished_at)) stage
    where f.state = 'succeeded' and f.finished_at > now() - interval '24 hours' and f.job_id >= uuid_from_time(now() - interval '2 days')
    group by 1, 2, 3
) l join models m using (model_id);

select grant_privileges();
