-- The queue: a small table of live jobs, a partitioned archive of finished jobs, and the attempts.
-- The hot tables have no foreign keys: the statements of crate `jobs` keep them in step.

create type job_state as enum ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'canceled', 'expired');

-- A cast would do, but Postgres holds a cast for changeable. From this function and the constraints below the planner knows which
-- table cannot have a status: a question for running jobs then reads no finished job. Not strict: it must be inlined.
create function job_status(state job_state) returns text language sql immutable parallel safe as $$
    select case state when 'scheduled' then 'scheduled' when 'queued' then 'queued' when 'running' then 'running'
                      when 'succeeded' then 'succeeded' when 'failed' then 'failed' when 'canceled' then 'canceled'
                      when 'expired' then 'expired' end
$$;
comment on function job_status is 'The state of a job as text.';

create table live_jobs (
    job_id                  uuid not null,
    state                   job_state not null,
    version                 int not null default 1,
    owner                   text not null,
    model_id                bigint not null,
    model_version_id        bigint not null,
    model_ref               text not null,
    image_sha256            bytea not null,
    image_upload            uuid not null default '00000000-0000-0000-0000-000000000000',
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
    batch_id                uuid,
    batch_line              int,
    custom_id               text,
    webhook_url             text,
    problem                 jsonb,
    constraint live_means_not_terminal check (job_status(state) in ('scheduled', 'queued', 'running')),
    constraint held_by_a_worker_exactly_while_running check ((state = 'running') = (worker_id is not null)),
    constraint claimed_at_exactly_while_running check ((state = 'running') = (claimed_at is not null)),
    constraint charged_within_budget check (attempts_charged between 0 and attempts_max),
    constraint interruptions_within_budget check (interruptions between 0 and interruptions_max)
) with (
    fillfactor = 75, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    -- Vacuum would cut a drained table to no pages. A scan of no pages looks free, so cached plans would ignore the indexes:
    -- a claim of ten jobs among 15,000 queued jobs then took 27 ms.
    vacuum_truncate = off
);
create index live_jobs_queued    on live_jobs (model_id, priority desc, seq) where state = 'queued';
create index live_jobs_scheduled on live_jobs (run_at) where state = 'scheduled';
create index live_jobs_running   on live_jobs (worker_id) where state = 'running';
create index live_jobs_deadline  on live_jobs (deadline_at) where deadline_at is not null and state in ('queued', 'scheduled');
create index live_jobs_by_owner  on live_jobs (owner, job_id);
create index live_jobs_by_batch  on live_jobs (batch_id, batch_line) where batch_id is not null;
-- The primary key is made last. Over an empty table all indexes cost the same, and of such indexes the planner takes the
-- newest. A plan that was made then must look jobs up by their key: `tests/integration/queue/plans.rs` checks that.
alter table live_jobs add primary key (job_id);
comment on table  live_jobs is 'Jobs that have not ended; function settle moves the row of a job that ends to finished_jobs.';
comment on column live_jobs.version is 'Grows with every change: the ETag.';
comment on column live_jobs.image_upload is 'Names the object of the input: images.upload at submit.';
comment on column live_jobs.seq is 'Position within (model, priority): a fair start tag, not an arrival number.';
comment on column live_jobs.run_at is 'When the job is, or was, due. Most jobs: at submit. Planned jobs and backoff: later. After a release: now again.';
comment on column live_jobs.deadline_at is 'Set by the client: a result after this time is useless.';
comment on column live_jobs.lease_no is 'Grows when a worker claims the job and when a worker loses it, and is never reset: the fencing token of all writes by workers.';
comment on column live_jobs.attempt_deadline_at is 'Past this time the attempt counts as timed out, even if its worker still runs.';
comment on column live_jobs.attempts_started is 'Numbers the attempts; counts all attempts, charged or not.';
comment on column live_jobs.attempts_charged is 'Attempts that failed because of the service or the model; bounded by attempts_max.';
comment on column live_jobs.interruptions is 'Attempts lost with their worker; bounded by interruptions_max. A clean release costs nothing.';
comment on column live_jobs.batch_id is 'The batch that the job was submitted with.';
comment on column live_jobs.batch_line is 'Number of the job''s line in the batch, from 1.';
comment on column live_jobs.custom_id is 'The client''s own name of the job within its batch.';
comment on column live_jobs.webhook_url is 'Where the end of this job is told, besides the owner''s endpoints.';

-- Partitioned by ranges of the job id, one day each. A UUIDv7 begins with its time, so the primary key is unique across all
-- partitions, and a look-up by id reads one partition.
create table finished_jobs (
    job_id                  uuid primary key,
    state                   job_state not null,
    version                 int not null,
    owner                   text not null,
    model_id                bigint not null,
    model_version_id        bigint not null,
    model_ref               text not null,
    image_sha256            bytea not null,
    params                  jsonb not null,
    metadata                jsonb not null,
    priority                smallint not null,
    created_at              timestamptz not null,
    run_at                  timestamptz not null,
    deadline_at             timestamptz,
    retain_for              interval not null,
    retain_until            timestamptz not null,
    lease_no                int not null,
    claimed_at              timestamptz,
    finished_at             timestamptz not null default now(),
    attempt_timeout_seconds int not null,
    attempts_started        smallint not null,
    attempts_charged        smallint not null,
    attempts_max            smallint not null,
    interruptions           smallint not null,
    interruptions_max       smallint not null,
    trace_parent            text,
    batch_id                uuid,
    batch_line              int,
    custom_id               text,
    webhook_url             text,
    worker                  text,
    device                  text,
    result                  jsonb,
    problem                 jsonb,
    timings                 jsonb,
    forward_batch_size      smallint,
    forward_batch_position  smallint,
    input_warnings          text[],
    purged_at               timestamptz,
    purged_object           text,
    constraint finished_means_terminal check (job_status(state) in ('succeeded', 'failed', 'canceled', 'expired')),
    constraint a_result_exactly_when_succeeded check ((state = 'succeeded' and purged_at is null) = (result is not null)),
    constraint a_problem_when_failed check (state <> 'failed' or problem is not null),
    constraint null_when_there_are_no_warnings check (input_warnings <> '{}')
) partition by range (job_id);
create table finished_jobs_default partition of finished_jobs default;
-- Lists read these two. Tombstones are in neither, so a list passes over none.
create index finished_jobs_by_owner on finished_jobs (owner, job_id) where purged_at is null;
create index finished_jobs_by_outcome on finished_jobs (owner, state, job_id) where state <> 'succeeded' and purged_at is null;
-- Nearly free to keep: jobs end in the order of time, so a few bytes tell which pages of a partition hold a minute.
create index finished_jobs_by_time on finished_jobs using brin (finished_at) with (pages_per_range = 16, autosummarize = on);
-- Few rows: jobs that succeed are not in this index.
create index finished_jobs_in_vain on finished_jobs (finished_at) where state in ('failed', 'expired');
create index finished_jobs_warned on finished_jobs (job_id) where input_warnings is not null;
create index finished_jobs_suspect on finished_jobs (job_id) where interruptions >= 2;
create index finished_jobs_retained on finished_jobs (retain_until) where purged_at is null;
create index finished_jobs_purged on finished_jobs (purged_at) where purged_at is not null;
create index finished_jobs_by_batch on finished_jobs (batch_id, batch_line) where batch_id is not null;
create index finished_jobs_purged_objects on finished_jobs (job_id) where purged_object is not null;
comment on table  finished_jobs is 'Terminal jobs; function settle moves the row of a job that ends here.';
comment on column finished_jobs.claimed_at is 'Start of the last attempt.';
comment on column finished_jobs.timings is 'Stage to milliseconds, of the last attempt.';
comment on column finished_jobs.input_warnings is 'Codes of what is wrong with the file of the image, as the last attempt found; null if nothing is.';
comment on column finished_jobs.purged_at is 'When the data of the job was deleted; the row stays as a tombstone.';
comment on column finished_jobs.purged_object is 'The object of a purged result, until it is deleted from the bucket.';

create table attempts (
    job_id     uuid not null,
    number     smallint not null,
    lease_no   int not null,
    worker_id  bigint,
    worker     text,
    device     text,
    started_at timestamptz not null,
    ended_at   timestamptz not null default now(),
    outcome    text not null check (outcome in ('retried', 'postponed', 'released', 'lost', 'timed_out', 'failed', 'canceled', 'succeeded')),
    charged    boolean not null,
    problem    jsonb,
    primary key (job_id, lease_no)
) partition by range (job_id);
create table attempts_default partition of attempts default;
comment on table attempts is 'Every attempt except one per job: the attempt that runs or that succeeded stands in the row of its job.';

create table lanes (
    model_id bigint not null,
    priority smallint not null,
    owner    text not null,
    next_seq bigint not null default 0,
    taken    int not null default 0,
    primary key (model_id, priority, owner)
) with (fillfactor = 50);
comment on table  lanes is 'Fair order: the position of an owner''s next job within a model and priority.';
comment on column lanes.taken is 'How many positions the latest enqueue took; the statement computes its first position from it.';

create table idempotency_keys (
    owner       text not null,
    key         text not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    job_id      uuid not null,
    batch_id    uuid,
    created_at  timestamptz not null default now(),
    primary key (owner, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
comment on table  idempotency_keys is 'The job of a client''s idempotency key. The statement that queues the job writes the key, so both exist or neither.';
comment on column idempotency_keys.fingerprint is 'SHA-256 of the request: a key that comes with another request is a mistake of the client.';
comment on column idempotency_keys.batch_id is 'The batch of the key, if the key stands for a batch. Then job_id equals batch_id and the fingerprint is all zeros: the row in batches has the digest.';
