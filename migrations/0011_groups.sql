-- Job batches, batches on the wire: what was submitted together, which of its lines were refused, and when it ended.

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
comment on column batches.lines is 'Lines that were taken so far, refused ones among them.';
comment on column batches.upload_no is 'Grows when an upload goes on behind one that broke off: the fence of what an uploader writes.';
comment on column batches.upload_lines is 'Lines that their uploader noted as taken; behind them may be jobs of one that died before it did.';
comment on column batches.upload_sha256 is 'Of those lines: whether an upload under the same idempotency key is the same.';
comment on column batches.heard_at is 'When its uploader last wrote.';
comment on column batches.sealed_at is 'Since when no line can come any more.';
comment on column batches.broke_off is 'Sealed without its last lines, because nobody heard of its uploader any more.';
comment on column batches.succeeded is 'Final counts, once it ended; before that they are derived from the jobs.';

create table batch_refusals (
    batch_id       uuid not null,
    batch_line int not null,
    custom_id      text,
    problem        jsonb not null,
    primary key (batch_id, batch_line)
);
comment on table batch_refusals is 'Lines of a batch that never became jobs, and why.';

alter table idempotency_keys add column batch_id uuid;
comment on column idempotency_keys.batch_id is 'The batch that the key stands for, if not a job; job_id is the same then, and the fingerprint all zeros: the batch knows its own.';

-- Ends a batch whose upload is over and of which no job lives. Nothing else writes finished_at.
create function finish_batch(which uuid) returns boolean
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    -- Whoever makes one of its jobs live again (retry_job) holds this row until the commit: what is looked at below is
    -- looked at anew under the lock, and can only move towards the end.
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
    where g.batch_id = which;
    return true;
end $$;
comment on function finish_batch is 'Whether it ended by this call. A batch ends once it is sealed and no job of it waits or runs; a retried job opens it again.';

-- As in 0010, but for the batch of the job: it has not ended any more.
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
            if ended.batch_id is not null then
                -- Waits for a finish_batch under way, so that the next statement sees what it wrote.
                perform from batches g where g.batch_id = ended.batch_id for no key update;
                update batches g
                set finished_at = null, cancel_requested_at = null, succeeded = null, failed = null, canceled = null, expired = null
                where g.batch_id = ended.batch_id and g.finished_at is not null;
            end if;
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

-- What the roles need here; run again by grant_privileges().
create function grant_batch_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    revoke execute on function finish_batch(uuid), grant_batch_privileges() from public;
    if to_regrole('darkroom_api') is not null then
        grant select, insert, update, delete on batches, batch_refusals to darkroom_api;
        grant execute on function finish_batch(uuid) to darkroom_api;
    end if;
end $$;
comment on function grant_batch_privileges is 'The part of grant_privileges that concerns batches.';

alter function grant_privileges() rename to grant_base_privileges;
create function grant_privileges() returns void
language sql set search_path = pg_catalog, public, pg_temp as $$
    select grant_base_privileges();
    select grant_batch_privileges();
$$;
comment on function grant_privileges is 'Gives the four roles what they need and nothing more; can be run again at any time.';
revoke execute on function grant_privileges(), grant_base_privileges() from public;
select grant_privileges();
