-- Batches: the jobs that a client submitted together, the lines that were refused, and when the batch ended.

create table batches (
    batch_id            uuid primary key,
    owner               text not null,
    metadata            jsonb not null default '{}',
    created_at          timestamptz not null default now(),
    lines               int not null default 0 check (lines >= 0),
    refused             int not null default 0 check (refused between 0 and lines),
    upload_no           int not null default 1,
    upload_lines        int not null default 0 check (upload_lines <= lines),
    upload_sha256       bytea check (octet_length(upload_sha256) = 32),
    heard_at            timestamptz not null default now(),
    sealed_at           timestamptz,
    broke_off           boolean not null default false,
    cancel_requested_at timestamptz,
    finished_at         timestamptz,
    succeeded           int,
    failed              int,
    canceled            int,
    expired             int,
    constraint broke_off_only_if_sealed check (sealed_at is not null or not broke_off),
    constraint finished_only_if_sealed check (sealed_at is not null or finished_at is null),
    constraint counted_exactly_when_finished check ((finished_at is not null) = (num_nonnulls(succeeded, failed, canceled, expired) = 4))
) with (fillfactor = 75);
create index batches_by_owner on batches (owner, batch_id);
create index batches_open on batches (batch_id) where finished_at is null;
create index batches_finished on batches (finished_at) where finished_at is not null;
comment on table  batches is 'Jobs that a client submitted together. Each job names its batch by batch_id.';
comment on column batches.lines is 'Lines taken so far, refused lines among them.';
comment on column batches.upload_no is 'Grows when an upload continues after one that broke off: the fencing token of an upload''s writes.';
comment on column batches.upload_lines is 'Lines that the upload noted as taken. More jobs may exist: an upload can die before it notes their lines.';
comment on column batches.upload_sha256 is 'SHA-256 of the noted lines: tells whether a second upload under the idempotency key sends these lines.';
comment on column batches.heard_at is 'When the upload last wrote.';
comment on column batches.sealed_at is 'Since when the batch takes no more lines.';
comment on column batches.broke_off is 'Sealed without its last lines, because its upload stopped and did not continue.';
comment on column batches.succeeded is 'Final counts, set when the batch ends; until then they are derived from the jobs.';

create table batch_refusals (
    batch_id   uuid not null,
    batch_line int not null,
    custom_id  text,
    problem    jsonb not null,
    primary key (batch_id, batch_line)
);
comment on table batch_refusals is 'Lines of a batch that never became jobs, and why.';

create function finish_batch(which uuid) returns boolean
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    whose text;
begin
    -- retry_job holds this row until its commit when it makes a job of the batch live again. So under this lock the jobs of
    -- the batch can only move towards their end, and the check below stays true.
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
comment on function finish_batch is 'Ends a batch, and answers whether this call ended it. A batch ends when it is sealed and none of its jobs waits or runs; a retried job opens it again. Only this function sets finished_at.';
