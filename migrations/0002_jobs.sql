-- The queue: a small live table, a partitioned archive, one lease row per worker.
-- No foreign keys and no triggers on the hot tables: the statements of crate `jobs` keep them in step.

create type job_state as enum ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'canceled', 'expired');

create table images (
    owner        text not null,
    sha256       bytea not null check (octet_length(sha256) = 32),
    content_type text not null,
    bytes        bigint not null check (bytes > 0),
    width        int not null check (width > 0),
    height       int not null check (height > 0),
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    purged_at    timestamptz,
    primary key (owner, sha256)
) with (fillfactor = 80);
comment on table  images is 'Uploaded images, content-addressed per owner: nothing is shared between owners.';
comment on column images.purged_at is 'Set when the object was deleted; the row stays, so that jobs can say what they were about.';

create table workers (
    worker_id     bigint generated always as identity primary key,
    name          text not null,
    device        text not null,
    build         text not null,
    models        text[] not null default '{}',
    registered_at timestamptz not null default now(),
    lease_until   timestamptz not null,
    draining      boolean not null default false,
    ended_at      timestamptz
) with (fillfactor = 50);
create index workers_alive on workers (lease_until) where ended_at is null;
comment on table  workers is 'One row per worker process; an id is never reused, and an expired worker registers anew.';
comment on column workers.lease_until is 'By the clock of the database: past it, the worker''s jobs belong to the rescuers.';

create table lanes (
    model_id bigint not null,
    priority smallint not null,
    owner    text not null,
    next_seq bigint not null default 0,
    taken    int not null default 0,
    primary key (model_id, priority, owner)
) with (fillfactor = 50);
comment on table  lanes is 'Fair order: where the next job of an owner stands within a model and priority.';
comment on column lanes.taken is 'How many positions the latest enqueue took: lets one statement know where its own begin.';

create table live_jobs (
    job_id                  uuid primary key,
    state                   job_state not null,
    version                 int not null default 1,
    owner                   text not null,
    model_id                bigint not null,
    model_version_id        bigint not null,
    model_ref               text not null,
    image_sha256            bytea not null,
    params                  jsonb not null,
    metadata                jsonb not null default '{}',
    priority                smallint not null default 0,
    seq                     bigint not null,
    created_at              timestamptz not null default now(),
    run_at                  timestamptz not null default now(),
    deadline_at             timestamptz,
    retain_for              interval not null,
    lease_no                int not null default 0,
    worker_id               bigint,
    claimed_at              timestamptz,
    attempt_deadline_at     timestamptz,
    attempt_timeout_seconds int not null,
    attempts_started        smallint not null default 0,
    attempts_charged        smallint not null default 0,
    attempts_max            smallint not null,
    interruptions           smallint not null default 0,
    interruptions_max       smallint not null,
    cancel_requested        boolean not null default false,
    trace_parent            text,
    problem                 jsonb,
    constraint live_means_not_terminal check (state in ('scheduled', 'queued', 'running')),
    constraint held_by_a_worker_exactly_while_running check ((state = 'running') = (worker_id is not null)),
    constraint claimed_at_exactly_while_running check ((state = 'running') = (claimed_at is not null)),
    constraint charged_within_budget check (attempts_charged between 0 and attempts_max),
    constraint interruptions_within_budget check (interruptions between 0 and interruptions_max)
) with (
    fillfactor = 75, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    -- A drained table that vacuum cuts to no pages looks free to scan, and cached plans pass its indexes over: a claim of
    -- ten over 15,000 queued jobs then took 27 ms.
    vacuum_truncate = off
);
create index live_jobs_queued    on live_jobs (model_id, priority desc, seq) where state = 'queued';
create index live_jobs_scheduled on live_jobs (run_at) where state = 'scheduled';
create index live_jobs_running   on live_jobs (worker_id) where state = 'running';
create index live_jobs_deadline  on live_jobs (deadline_at) where deadline_at is not null and state in ('queued', 'scheduled');
create index live_jobs_by_owner  on live_jobs (owner, job_id);
comment on column live_jobs.version is 'Grows with every change: the ETag.';
comment on column live_jobs.seq is 'Position within (model, priority): a fair start tag, not an arrival number.';
comment on column live_jobs.run_at is 'When the job is, or was, due: now for most; later for planned jobs and back-off; again now after a release.';
comment on column live_jobs.deadline_at is 'The client''s: past it the result is of no use.';
comment on column live_jobs.attempt_deadline_at is 'Past it the attempt counts as timed out, whatever its worker says.';
comment on column live_jobs.lease_no is 'Grows with every claim and every taking-away, never reset: the fence of all writes by workers.';
comment on column live_jobs.attempts_started is 'Numbers the attempts; counts all, charged or not.';
comment on column live_jobs.attempts_charged is 'Attempts that failed by our or the model''s trouble; bounded by attempts_max.';
comment on column live_jobs.interruptions is 'Attempts lost with their worker; bounded by interruptions_max. A clean release costs nothing.';

-- Partitioned by ranges of the job id, a day each: a UUIDv7 begins with its time, so that the primary key is a real one
-- and a look-up by id touches one partition.
create table finished_jobs (
    job_id            uuid primary key,
    state             job_state not null,
    version           int not null,
    owner             text not null,
    model_id          bigint not null,
    model_version_id  bigint not null,
    model_ref         text not null,
    image_sha256      bytea not null,
    params            jsonb not null,
    metadata          jsonb not null,
    priority          smallint not null,
    created_at        timestamptz not null,
    run_at            timestamptz not null,
    deadline_at       timestamptz,
    retain_for        interval not null,
    retain_until      timestamptz not null,
    lease_no          int not null,
    claimed_at        timestamptz,
    finished_at       timestamptz not null default now(),
    attempt_timeout_seconds int not null,
    attempts_started  smallint not null,
    attempts_charged  smallint not null,
    attempts_max      smallint not null,
    interruptions     smallint not null,
    interruptions_max smallint not null,
    trace_parent      text,
    worker            text,
    device            text,
    result            jsonb,
    problem           jsonb,
    timings           jsonb,
    forward_batch_size        smallint,
    forward_batch_position    smallint,
    purged_at         timestamptz,
    constraint finished_means_terminal check (state in ('succeeded', 'failed', 'canceled', 'expired')),
    constraint a_result_exactly_when_succeeded check ((state = 'succeeded' and purged_at is null) = (result is not null)),
    constraint a_problem_when_failed check (state <> 'failed' or problem is not null)
) partition by range (job_id);
create table finished_jobs_default partition of finished_jobs default;
create index finished_jobs_by_owner on finished_jobs (owner, job_id);
comment on table  finished_jobs is 'Terminal jobs; the statement that ends a job moves its row here.';
comment on column finished_jobs.claimed_at is 'Start of the last attempt.';
comment on column finished_jobs.timings is 'Stage to milliseconds, of the last attempt.';

create table attempts (
    job_id     uuid not null,
    number     smallint not null,
    lease_no   int not null,
    worker_id  bigint,
    worker     text,
    device     text,
    started_at timestamptz not null,
    ended_at   timestamptz not null default now(),
    outcome    text not null check (outcome in ('retried', 'released', 'lost', 'timed_out', 'failed', 'canceled', 'succeeded')),
    charged    boolean not null,
    problem    jsonb,
    primary key (job_id, lease_no)
) partition by range (job_id);
create table attempts_default partition of attempts default;
comment on table attempts is 'Every attempt but the one that stands in the job''s own row (the running one, or the one that succeeded).';

-- Smallest UUIDv7 of an instant: the bound of a day's partition.
create function uuid_from_time(at timestamptz) returns uuid language sql immutable strict parallel safe as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

create function make_partitions(days_ahead int) returns int language plpgsql as $$
declare
    day date; made int := 0; parent text; child text;
begin
    -- One maker at a time; whoever comes second finds nothing left to do.
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
                    -- Rows of that day came before its partition and stay in the default one; the other days go on.
                    raise warning '% was not made: the default partition has rows of that day', child;
                end;
            end if;
        end loop;
    end loop;
    return made;
end $$;
comment on function make_partitions is 'Makes the daily partitions from today to so many days ahead; any process may call it at any time.';
select make_partitions(3);
