-- What finished jobs tell: latency, errors and usage. A question about a month must not read a month of jobs, so `settle` counts jobs
-- as they end. It adds a row and changes none: two settlements never wait for each other here. Housekeeping folds these rows into
-- one row a day (`fold_history`). The views sum both kinds, so they are exact at any moment.

create table ended_counts (
    owner          text not null,
    model_id       bigint not null,
    at             timestamptz not null default now(),
    state          job_state not null,
    code           text,
    jobs           int not null,
    in_time        int not null,
    infer_micros   bigint not null,
    attempt_micros bigint not null,
    images         bytea[] not null default '{}',
    image_bytes    bigint not null default 0,
    example        uuid
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
        autovacuum_vacuum_cost_delay = 0);
-- Digests do not get smaller, and trying costs a settlement time.
alter table ended_counts alter column images set storage external;
comment on table ended_counts is 'Jobs that ended in one statement alike. A retry adds a row with negative numbers. Rows stay until the next fold.';
comment on column ended_counts.at is 'When the jobs ended: their finished_at.';
comment on column ended_counts.code is 'Code of the problem of jobs that failed or expired.';
comment on column ended_counts.in_time is 'Those that succeeded with timings within two days of their creation: latency counts these.';
comment on column ended_counts.images is 'The image of each job. Their sizes are looked up later: a settlement has no time for it.';
comment on column ended_counts.image_bytes is 'Bytes of the images that are not in `images`.';
comment on column ended_counts.example is 'The latest made of the jobs that failed or expired.';

create table usage_days (
    owner          text not null,
    day            date not null,
    model_id       bigint not null,
    jobs           bigint not null,
    succeeded      bigint not null,
    image_bytes    bigint not null,
    infer_micros   bigint not null,
    attempt_micros bigint not null,
    primary key (owner, day, model_id)
);
comment on table usage_days is 'Folded counts of jobs that ended, by owner, day (UTC) and model.';

create table error_days (
    day       date not null,
    model_id  bigint not null,
    state     job_state not null,
    code      text,
    jobs      bigint not null,
    latest_at timestamptz,
    example   uuid,
    unique nulls not distinct (day, model_id, state, code)
);
comment on table error_days is 'Folded counts of jobs that failed or expired, by day (UTC), model, state and code.';

create table success_periods (
    period   timestamptz not null,
    model_id bigint not null,
    jobs     bigint not null,
    primary key (period, model_id)
);
comment on table success_periods is 'Folded counts of ended_counts.in_time, by model and five minutes.';

-- These two have no key by which logical replication could name a row that is deleted or changed.
alter table ended_counts replica identity full;
alter table error_days replica identity full;

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

create view usage_now as
select c.owner, (c.at at time zone 'UTC')::date as day, c.model_id, sum(c.jobs)::bigint as jobs,
       coalesce(sum(c.jobs) filter (where c.state = 'succeeded'), 0)::bigint as succeeded,
       sum(c.image_bytes + coalesce((
           select sum(i.bytes * s.jobs) from (select sha256, count(*) as jobs from unnest(c.images) as u(sha256) group by sha256) s
           cross join lateral (select x.bytes from images x where x.owner = any(array[c.owner]) and x.sha256 = s.sha256 offset 0) i
       ), 0))::bigint as image_bytes,
       sum(c.infer_micros)::bigint as infer_micros, sum(c.attempt_micros)::bigint as attempt_micros
from ended_counts c group by 1, 2, 3;
comment on view usage_now is 'What is not folded into usage_days yet.';

-- The view calls it with the rights of its reader, who may not read the jobs themselves.
create function stage_latencies(of_model bigint, period_start timestamptz) returns table (stage text, jobs bigint, ms float8[])
language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
    select s.key, count(*), percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by s.value::float8)
    from finished_jobs f
    cross join lateral jsonb_each_text(with_waits(f.timings, f.created_at, f.run_at, f.claimed_at, f.finished_at)) s
    where f.state = 'succeeded' and f.model_id = of_model and jsonb_typeof(f.timings) = 'object'
      and f.finished_at >= period_start and f.finished_at < period_start + interval '5 minutes'
      and f.created_at >= f.finished_at - interval '2 days'
      -- Opens few partitions. An id may be made a moment before its row.
      and f.job_id >= uuid_from_time(period_start - interval '50 hours')
    group by s.key
$$;
comment on function stage_latencies is 'Percentiles 50, 90, 99 and 100 of each stage, in milliseconds, of a model''s jobs that succeeded in the five minutes from a time on.';

create function fold_history() returns int
language plpgsql security definer set search_path = pg_catalog, public, pg_temp
-- A fold gives up soon where it meets a lock. The next one comes within seconds.
set lock_timeout = '1s' as $$
declare
    today constant date := (now() at time zone 'UTC')::date;
    folded int; periods int;
begin
    -- One process at a time; the others need not wait. A settlement does not wait either.
    if not pg_try_advisory_xact_lock(hashtext('darkroom.fold_history')) then
        return 0;
    end if;
    -- One statement: it deletes the rows that it counts. A row that is committed meanwhile waits for the next fold. So does the rest of
    -- a long backlog: a fold of all of it could take longer than a statement may, each time.
    with counts as (
        delete from ended_counts c where c.ctid = any(array(select t.ctid from ended_counts t limit 10000))
        -- As in usage_now.
        returning c.*, c.image_bytes + coalesce((
            select sum(i.bytes * s.jobs) from (select sha256, count(*) as jobs from unnest(c.images) as u(sha256) group by sha256) s
            cross join lateral (select x.bytes from images x where x.owner = any(array[c.owner]) and x.sha256 = s.sha256 offset 0) i
        ), 0) as all_image_bytes
    ),
    used as (
        insert into usage_days as u (owner, day, model_id, jobs, succeeded, image_bytes, infer_micros, attempt_micros)
        select c.owner, (c.at at time zone 'UTC')::date, c.model_id, sum(c.jobs), coalesce(sum(c.jobs) filter (where c.state = 'succeeded'), 0),
               sum(c.all_image_bytes), sum(c.infer_micros), sum(c.attempt_micros)
        from counts c group by 1, 2, 3
        on conflict (owner, day, model_id) do update
        set jobs = u.jobs + excluded.jobs, succeeded = u.succeeded + excluded.succeeded, image_bytes = u.image_bytes + excluded.image_bytes,
            infer_micros = u.infer_micros + excluded.infer_micros, attempt_micros = u.attempt_micros + excluded.attempt_micros
    ),
    in_vain as (
        select (c.at at time zone 'UTC')::date as day, c.model_id, c.state, c.code, sum(c.jobs)::bigint as jobs,
               max(c.at) filter (where c.jobs > 0) as latest_at, max(c.example::text)::uuid as example, bool_or(c.jobs < 0) as is_less
        from counts c where c.state in ('failed', 'expired') group by 1, 2, 3, 4
    ),
    failed as (
        insert into error_days as e (day, model_id, state, code, jobs, latest_at, example)
        select v.day, v.model_id, v.state, v.code, v.jobs,
               case when v.is_less then f.latest_at else greatest(o.latest_at, v.latest_at) end,
               case when v.is_less then f.example else greatest(o.example, v.example) end
        from in_vain v
        left join error_days o on o.day = v.day and o.model_id = v.model_id and o.state = v.state and o.code is not distinct from v.code
        -- A retry may have taken the latest job away.
        left join lateral (
            select max(f.finished_at) as latest_at, max(f.job_id::text)::uuid as example from finished_jobs f
            where v.is_less and f.state in ('failed', 'expired') and f.state = v.state and f.model_id = v.model_id
              and f.problem ->> 'code' is not distinct from v.code
              and f.finished_at >= v.day::timestamp at time zone 'UTC' and f.finished_at < (v.day + 1)::timestamp at time zone 'UTC'
        ) f on true
        on conflict (day, model_id, state, code) do update
        set jobs = e.jobs + excluded.jobs, latest_at = excluded.latest_at, example = excluded.example
    ),
    succeeded as (
        insert into success_periods as p (period, model_id, jobs)
        select latency_period(c.at), c.model_id, sum(c.in_time) from counts c group by 1, 2 having sum(c.in_time) <> 0
        on conflict (period, model_id) do update set jobs = p.jobs + excluded.jobs
    )
    select count(*) into folded from counts;

    -- A few at a time: a call takes a moment also when many are missing.
    insert into latency_periods (model_id, period, jobs, stages)
    select due.model_id, due.period, due.jobs,
           coalesce((select jsonb_object_agg(s.stage, jsonb_build_array(s.jobs) || to_jsonb(s.ms)) from stage_latencies(due.model_id, due.period) s), '{}')
    from (
        select c.model_id, c.period, c.jobs from success_periods c left join latency_periods l using (model_id, period)
        where c.period >= now() - interval '1 day' and c.period < now() - interval '6 minutes' and l.jobs is distinct from c.jobs
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
    select model_id, period, sum(jobs)::bigint as jobs
    from (select model_id, period, jobs from success_periods
          union all
          select model_id, latency_period(at), in_time from ended_counts where in_time > 0) c
    where period >= now() - interval '24 hours' group by model_id, period
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
from (select day, model_id, state, code, jobs, latest_at, example from error_days
      union all
      select (at at time zone 'UTC')::date, model_id, state, code, jobs, case when jobs > 0 then at end, example
      from ended_counts where state in ('failed', 'expired')) e
join models m using (model_id)
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
from (select * from usage_days union all select * from usage_now) u join models m using (model_id)
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
