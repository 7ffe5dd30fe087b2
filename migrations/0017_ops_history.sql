-- Contract: what finished jobs tell: latency, errors and usage.

create view ops.latency as
select m.name as model, l.stage, l.period, l.jobs, l.ms[1] as p50_ms, l.ms[2] as p90_ms, l.ms[3] as p99_ms, l.ms[4] as max_ms
from (
    select f.model_id, stage.key as stage, date_bin('5 minutes', f.finished_at, '2000-01-01 00:00:00+00') as period, count(*) as jobs,
           percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by stage.value::float8) as ms
    from finished_jobs f cross join lateral jsonb_each_text(with_waits(f.timings, f.created_at, f.run_at, f.claimed_at, f.finished_at)) stage
    where f.state = 'succeeded' and f.finished_at > now() - interval '24 hours' and f.job_id >= uuid_from_time(now() - interval '2 days')
    group by 1, 2, 3
) l join models m using (model_id);
comment on view ops.latency is 'Percentiles of jobs that succeeded in the last 24 hours and were made in the last two days. Reads all of these jobs: a day of millions takes seconds.';
comment on column ops.latency.model is 'Name of the model.';
comment on column ops.latency.stage is 'queue, fetch, decode, preprocess, batch_wait, infer, postprocess, complete, or total: from submit to result.';
comment on column ops.latency.period is 'Start of the five minutes in which the jobs ended.';
comment on column ops.latency.jobs is 'Number of jobs behind the percentiles.';
comment on column ops.latency.p50_ms is 'Median, in milliseconds.';
comment on column ops.latency.p90_ms is '90th percentile, in milliseconds.';
comment on column ops.latency.p99_ms is '99th percentile, in milliseconds.';
comment on column ops.latency.max_ms is 'The slowest job, in milliseconds.';

create view ops.errors as
select f.problem ->> 'code' as code, m.name as model, (f.finished_at at time zone 'UTC')::date as day, f.state::text as status,
       count(*) as jobs, max(f.finished_at) as latest_at, max(ops.job_name(f.job_id)) as example
from finished_jobs f join models m using (model_id)
where f.state in ('failed', 'expired') and f.job_id >= uuid_from_time(now() - interval '30 days')
group by 1, 2, 3, 4;
comment on view ops.errors is 'Jobs that failed or expired, of those made in the last 30 days.';
comment on column ops.errors.code is 'Code of the problem: docs/problems.md has a page for each.';
comment on column ops.errors.model is 'Name of the model.';
comment on column ops.errors.day is 'Day on which the jobs ended, in UTC.';
comment on column ops.errors.status is 'failed or expired.';
comment on column ops.errors.jobs is 'Number of jobs.';
comment on column ops.errors.latest_at is 'When the latest of these jobs ended.';
comment on column ops.errors.example is 'Id of the latest made of these jobs.';

create view ops.usage as
select f.owner, m.name as model, (f.finished_at at time zone 'UTC')::date as day, count(*) as jobs,
       count(*) filter (where f.state = 'succeeded') as succeeded,
       coalesce(sum(i.bytes), 0)::bigint as image_bytes,
       coalesce(sum((f.timings ->> 'infer')::float8 / greatest(f.forward_batch_size, 1)) / 1000, 0) as infer_seconds,
       coalesce(sum(extract(epoch from f.finished_at - f.claimed_at)), 0)::float8 as attempt_seconds
from finished_jobs f join models m using (model_id) left join images i on i.owner = f.owner and i.sha256 = f.image_sha256
where f.job_id >= uuid_from_time(now() - interval '31 days')
group by 1, 2, 3;
comment on view ops.usage is 'What each owner used: finished jobs that were made in the last 31 days and were not pruned. Reads all of these jobs: millions take seconds.';
comment on column ops.usage.owner is 'Owner of the jobs.';
comment on column ops.usage.model is 'Name of the model.';
comment on column ops.usage.day is 'Day on which the jobs ended, in UTC.';
comment on column ops.usage.jobs is 'Jobs that ended, in any state.';
comment on column ops.usage.succeeded is 'Jobs that succeeded.';
comment on column ops.usage.image_bytes is 'Bytes of the images; an image counts once for each job.';
comment on column ops.usage.infer_seconds is 'Seconds of the device: each job''s share of its forward pass.';
comment on column ops.usage.attempt_seconds is 'Seconds from claim to end of the last attempts; attempts of one forward batch overlap.';
