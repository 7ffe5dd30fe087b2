-- What finished jobs tell: latency, errors and usage. A question about a month must not read a month of jobs, so triggers count
-- jobs as they end. A trigger adds small rows and changes none: two settlements never wait for each other here. Housekeeping
-- folds the small rows into one row a day (`fold_history`). The views sum both kinds, so they are exact at any moment.

create table usage_days (
    owner          text not null,
    model_id       bigint not null,
    day            date not null,
    is_folded      boolean not null default false,
    jobs           bigint not null,
    succeeded      bigint not null,
    image_bytes    bigint not null,
    infer_micros   bigint not null,
    attempt_micros bigint not null
);
create unique index usage_days_folded on usage_days (owner, day, model_id) where is_folded;
create index usage_days_new on usage_days (day) where not is_folded;
comment on table usage_days is 'Jobs that ended, by owner, model and day (UTC). The sum of the rows of a group is its count; a row of a retry is negative.';
comment on column usage_days.is_folded is 'Whether the row is the sum that housekeeping made; a group has at most one such row.';

create table error_days (
    code      text,
    model_id  bigint not null,
    day       date not null,
    state     job_state not null,
    is_folded boolean not null default false,
    jobs      bigint not null,
    latest_at timestamptz,
    example   uuid
);
create unique index error_days_folded on error_days (day, model_id, state, code) nulls not distinct where is_folded;
create index error_days_new on error_days (day) where not is_folded;
comment on table error_days is 'Jobs that failed or expired, by code, model and day (UTC); sums as in usage_days.';

create table success_periods (
    model_id  bigint not null,
    period    timestamptz not null,
    is_folded boolean not null default false,
    jobs      bigint not null
);
create unique index success_periods_folded on success_periods (period, model_id) where is_folded;
create index success_periods_new on success_periods (period) where not is_folded;
comment on table success_periods is 'Jobs that succeeded with timings within two days of their creation, by model and five minutes; sums as in usage_days.';

create table latency_periods (
    model_id bigint not null,
    period   timestamptz not null,
    jobs     bigint not null,
    stages   jsonb not null,
    primary key (period, model_id)
);
comment on table latency_periods is 'Percentiles of past five minutes. A row counts only while its jobs equal the count of success_periods: a job that is committed late makes the row void, and housekeeping computes it anew.';
comment on column latency_periods.stages is 'Stage to [jobs, p50, p90, p99, max], in milliseconds.';

create function latency_period(at timestamptz) returns timestamptz language sql immutable parallel safe
    as $$ select date_bin('5 minutes', at, '2000-01-01 00:00:00+00') $$;
comment on function latency_period is 'Start of the five minutes that contain a time.';

-- Cannot fail for any row: a failure would keep a job from ending. A timing that is no number counts as 0, a huge one as a day.
create function infer_micros(timings jsonb, forward_batch_size smallint) returns bigint language sql immutable parallel safe as $$
    select case when jsonb_typeof(timings -> 'infer') = 'number'
                then (least(greatest((timings -> 'infer')::numeric, 0), 86400000)::float8 * 1000 / greatest(forward_batch_size, 1))::bigint else 0 end
$$;
comment on function infer_micros is 'A job''s share of its forward pass, in microseconds.';

-- A job leaves the archive by a retry, or as a tombstone. What a tombstone used stays counted.
create function count_ended_jobs() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    sign constant int := case tg_op when 'INSERT' then 1 else -1 end;
begin
    insert into usage_days (owner, model_id, day, jobs, succeeded, image_bytes, infer_micros, attempt_micros)
    select j.owner, j.model_id, (j.finished_at at time zone 'UTC')::date, sign * count(*), sign * count(*) filter (where j.state = 'succeeded'),
           sign * coalesce(sum(i.bytes), 0)::bigint, sign * sum(infer_micros(j.timings, j.forward_batch_size))::bigint,
           sign * coalesce(sum((extract(epoch from j.finished_at - j.claimed_at)::float8 * 1000000)::bigint), 0)::bigint
    from changed j
    -- `offset 0` and `any`: each image is looked up by its whole key, whatever the statistics say.
    left join lateral (select x.bytes from images x where x.owner = any(array[j.owner]) and x.sha256 = j.image_sha256 offset 0) i on true
    where j.purged_at is null
    group by 1, 2, 3;

    insert into error_days (code, model_id, day, state, jobs, latest_at, example)
    select j.problem ->> 'code', j.model_id, (j.finished_at at time zone 'UTC')::date, j.state, sign * count(*),
           case when sign > 0 then max(j.finished_at) end, case when sign > 0 then max(j.job_id::text)::uuid end
    from changed j where j.state in ('failed', 'expired') and j.purged_at is null
    group by 1, 2, 3, 4;

    insert into success_periods (model_id, period, jobs)
    select j.model_id, latency_period(j.finished_at), sign * count(*)
    from changed j
    where j.state = 'succeeded' and j.purged_at is null and jsonb_typeof(j.timings) = 'object'
      and j.created_at >= j.finished_at - interval '2 days'
    group by 1, 2;
    return null;
end $$;
comment on function count_ended_jobs is 'Counts jobs that end, and takes back jobs that are retried.';
create trigger count_ended_jobs after insert on finished_jobs
    referencing new table as changed for each statement execute function count_ended_jobs();
create trigger count_retried_jobs after delete on finished_jobs
    referencing old table as changed for each statement execute function count_ended_jobs();

-- The view calls it with the rights of its reader, who may not read the jobs themselves.
create function stage_latencies(of_model bigint, from_time timestamptz) returns table (stage text, jobs bigint, ms float8[])
language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
    select s.key, count(*), percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by s.value::float8)
    from finished_jobs f
    cross join lateral jsonb_each_text(with_waits(f.timings, f.created_at, f.run_at, f.claimed_at, f.finished_at)) s
    where f.state = 'succeeded' and f.model_id = of_model and jsonb_typeof(f.timings) = 'object'
      and f.finished_at >= from_time and f.finished_at < from_time + interval '5 minutes'
      and f.created_at >= f.finished_at - interval '2 days'
      -- Opens few partitions. An id may be made a moment before its row.
      and f.job_id >= uuid_from_time(from_time - interval '50 hours')
    group by s.key
$$;
comment on function stage_latencies is 'Percentiles 50, 90, 99 and 100 of each stage, in milliseconds, of a model''s jobs that succeeded in the five minutes from a time on.';

create function fold_history() returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    today constant date := (now() at time zone 'UTC')::date;
    folded int; periods int;
begin
    -- One process at a time; the others need not wait.
    if not pg_try_advisory_xact_lock(hashtext('darkroom.fold_history')) then
        return 0;
    end if;
    -- A statement sees small rows and the sum that they go into at one moment, so no count is lost or doubled.
    with small as (
        delete from usage_days u where not u.is_folded returning u.*
    ),
    sums as (
        delete from usage_days u using (select distinct owner, model_id, day from small) s
        where u.is_folded and u.owner = s.owner and u.day = s.day and u.model_id = s.model_id returning u.*
    )
    insert into usage_days (owner, model_id, day, is_folded, jobs, succeeded, image_bytes, infer_micros, attempt_micros)
    select owner, model_id, day, true, sum(jobs), sum(succeeded), sum(image_bytes), sum(infer_micros), sum(attempt_micros)
    from (select * from small union all select * from sums) u group by 1, 2, 3;
    get diagnostics folded = row_count;

    with small as (
        delete from error_days e where not e.is_folded returning e.*
    ),
    sums as (
        delete from error_days e using (select distinct code, model_id, day, state from small) s
        where e.is_folded and e.day = s.day and e.model_id = s.model_id and e.state = s.state and e.code is not distinct from s.code returning e.*
    )
    insert into error_days (code, model_id, day, state, is_folded, jobs, latest_at, example)
    select e.code, e.model_id, e.day, e.state, true, e.jobs, case when e.is_less then f.latest_at else e.latest_at end,
           case when e.is_less then f.example else e.example end
    from (
        select code, model_id, day, state, sum(jobs) as jobs, max(latest_at) as latest_at, max(example::text)::uuid as example, bool_or(jobs < 0) as is_less
        from (select * from small union all select * from sums) u group by 1, 2, 3, 4
    ) e
    -- A retry may have taken the latest job away.
    left join lateral (
        select max(f.finished_at) as latest_at, max(f.job_id::text)::uuid as example from finished_jobs f
        where e.is_less and f.state in ('failed', 'expired') and f.state = e.state and f.model_id = e.model_id and f.problem ->> 'code' is not distinct from e.code
          and f.finished_at >= e.day::timestamp at time zone 'UTC' and f.finished_at < (e.day + 1)::timestamp at time zone 'UTC'
    ) f on true;

    with small as (
        delete from success_periods p where not p.is_folded returning p.*
    ),
    sums as (
        delete from success_periods p using (select distinct model_id, period from small) s
        where p.is_folded and p.period = s.period and p.model_id = s.model_id returning p.*
    )
    insert into success_periods (model_id, period, is_folded, jobs)
    select model_id, period, true, sum(jobs) from (select * from small union all select * from sums) p group by 1, 2;

    -- A few at a time: a call takes a moment also when many are missing.
    insert into latency_periods (model_id, period, jobs, stages)
    select due.model_id, due.period, due.jobs,
           coalesce((select jsonb_object_agg(s.stage, jsonb_build_array(s.jobs) || to_jsonb(s.ms)) from stage_latencies(due.model_id, due.period) s), '{}')
    from (
        select c.model_id, c.period, c.jobs from success_periods c left join latency_periods l using (model_id, period)
        where c.is_folded and c.period >= now() - interval '1 day' and c.period < now() - interval '6 minutes' and l.jobs is distinct from c.jobs
        order by c.period desc limit 12
    ) due
    on conflict (period, model_id) do update set jobs = excluded.jobs, stages = excluded.stages;
    get diagnostics periods = row_count;

    -- Beyond what the views show.
    delete from usage_days where day < today - 40;
    delete from error_days where day < today - 40;
    delete from success_periods where period < now() - interval '2 days';
    delete from latency_periods where period < now() - interval '2 days';
    return folded + periods;
end $$;
comment on function fold_history is 'Folds the counts of ended jobs into one row a day, and computes the percentiles of past five minutes. Answers how many rows it wrote. Any process may call it at any time.';

create view ops.latency as
with counted as (
    select model_id, period, sum(jobs)::bigint as jobs from success_periods
    where period >= now() - interval '24 hours' group by model_id, period having sum(jobs) > 0
)
select m.name as model, l.stage, l.period, l.jobs, l.ms[1] as p50_ms, l.ms[2] as p90_ms, l.ms[3] as p99_ms, l.ms[4] as max_ms
from (
    select c.model_id, c.period, s.key as stage, (s.value ->> 0)::bigint as jobs,
           array[(s.value ->> 1)::float8, (s.value ->> 2)::float8, (s.value ->> 3)::float8, (s.value ->> 4)::float8] as ms
    from counted c join latency_periods p using (model_id, period, jobs) cross join lateral jsonb_each(p.stages) s
    union all
    select c.model_id, c.period, s.stage, s.jobs, s.ms
    from counted c left join latency_periods p using (model_id, period, jobs) cross join lateral stage_latencies(c.model_id, c.period) s
    where p.model_id is null
) l join models m using (model_id);
comment on view ops.latency is 'Percentiles of jobs that succeeded in the last 24 hours and within two days of their creation. Reads the jobs of the last minutes, and stored percentiles of the time before.';
comment on column ops.latency.model is 'Name of the model.';
comment on column ops.latency.stage is 'queue, fetch, decode, preprocess, batch_wait, infer, postprocess, complete, or total: from submit to result.';
comment on column ops.latency.period is 'Start of the five minutes in which the jobs ended.';
comment on column ops.latency.jobs is 'Number of jobs behind the percentiles.';
comment on column ops.latency.p50_ms is 'Median, in milliseconds.';
comment on column ops.latency.p90_ms is '90th percentile, in milliseconds.';
comment on column ops.latency.p99_ms is '99th percentile, in milliseconds.';
comment on column ops.latency.max_ms is 'The slowest job, in milliseconds.';

create view ops.errors as
select e.code, m.name as model, e.day, job_status(e.state) as status, sum(e.jobs)::bigint as jobs, max(e.latest_at) as latest_at,
       ops.job_name(max(e.example::text)::uuid) as example
from error_days e join models m using (model_id)
where e.day > (now() at time zone 'UTC')::date - 30
group by e.code, m.name, e.day, e.state having sum(e.jobs) > 0;
comment on view ops.errors is 'Jobs that failed or expired in the last 30 days.';
comment on column ops.errors.code is 'Code of the problem: docs/problems.md has a page for each.';
comment on column ops.errors.model is 'Name of the model.';
comment on column ops.errors.day is 'Day on which the jobs ended, in UTC.';
comment on column ops.errors.status is 'failed or expired.';
comment on column ops.errors.jobs is 'Number of jobs.';
comment on column ops.errors.latest_at is 'When the latest of these jobs ended.';
comment on column ops.errors.example is 'Id of the latest made of these jobs.';

create view ops.usage as
select u.owner, m.name as model, u.day, sum(u.jobs)::bigint as jobs, sum(u.succeeded)::bigint as succeeded, sum(u.image_bytes)::bigint as image_bytes,
       sum(u.infer_micros)::float8 / 1000000 as infer_seconds, sum(u.attempt_micros)::float8 / 1000000 as attempt_seconds
from usage_days u join models m using (model_id)
where u.day > (now() at time zone 'UTC')::date - 31
group by u.owner, m.name, u.day having sum(u.jobs) > 0;
comment on view ops.usage is 'What each owner used: jobs that ended in the last 31 days. A deleted job stays counted; a job that is retried counts when it ends again.';
comment on column ops.usage.owner is 'Owner of the jobs.';
comment on column ops.usage.model is 'Name of the model.';
comment on column ops.usage.day is 'Day on which the jobs ended, in UTC.';
comment on column ops.usage.jobs is 'Jobs that ended, in any state.';
comment on column ops.usage.succeeded is 'Jobs that succeeded.';
comment on column ops.usage.image_bytes is 'Bytes of the images; an image counts once for each job.';
comment on column ops.usage.infer_seconds is 'Seconds of the device: each job''s share of its forward pass.';
comment on column ops.usage.attempt_seconds is 'Seconds from claim to end of the last attempts; attempts of one forward batch overlap.';
