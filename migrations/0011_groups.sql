-- Job groups, batches on the wire: what was submitted together, which of its lines were refused, and when it ended.

create table groups (
    group_id            uuid primary key,
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
create index groups_by_owner on groups (owner, group_id);
create index groups_open on groups (group_id) where finished_at is null;
create index groups_finished on groups (finished_at) where finished_at is not null;
comment on table  groups is 'Job groups, batches on the wire. Their jobs name them by group_id; what became of those is counted by index.';
comment on column groups.lines is 'Lines that were taken so far, refused ones among them.';
comment on column groups.upload_no is 'Grows when an upload goes on behind one that broke off: the fence of what an uploader writes.';
comment on column groups.upload_lines is 'Lines that their uploader noted as taken; behind them may be jobs of one that died before it did.';
comment on column groups.upload_sha256 is 'Of those lines: whether an upload under the same idempotency key is the same.';
comment on column groups.heard_at is 'When its uploader last wrote.';
comment on column groups.sealed_at is 'Since when no line can come any more.';
comment on column groups.broke_off is 'Sealed without its last lines, because nobody heard of its uploader any more.';
comment on column groups.succeeded is 'Final counts, once it ended; before that they are derived from the jobs.';

create table group_refusals (
    group_id       uuid not null,
    group_position int not null,
    custom_id      text,
    problem        jsonb not null,
    primary key (group_id, group_position)
);
comment on table group_refusals is 'Lines of a group that never became jobs, and why.';

alter table idempotency_keys add column group_id uuid;
comment on column idempotency_keys.group_id is 'The group that the key stands for, if not a job; job_id is the same then, and the fingerprint all zeros: the group knows its own.';

-- Ends a group whose upload is over and of which no job lives. Nothing else writes finished_at.
create function finish_group(which uuid) returns boolean
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    -- Whoever makes one of its jobs live again (retry_job) holds this row until the commit: what is looked at below is
    -- looked at anew under the lock, and can only move towards the end.
    perform from groups g where g.group_id = which and g.sealed_at is not null and g.finished_at is null for no key update skip locked;
    if not found or exists (select from live_jobs j where j.group_id = which) then
        return false;
    end if;
    update groups g
    set finished_at = now(), succeeded = c.succeeded, failed = c.failed, canceled = c.canceled, expired = c.expired
    from (
        select count(*) filter (where f.state = 'succeeded') as succeeded, count(*) filter (where f.state = 'failed') as failed,
               count(*) filter (where f.state = 'canceled') as canceled, count(*) filter (where f.state = 'expired') as expired
        from finished_jobs f
        where f.group_id = which
          and f.job_id >= (select uuid_from_time(o.created_at - interval '1 hour') from groups o where o.group_id = which)
    ) c
    where g.group_id = which;
    return true;
end $$;
comment on function finish_group is 'Whether it ended by this call. A group ends once it is sealed and no job of it waits or runs; a retried job opens it again.';

-- As in 0010, but for the group of the job: it has not ended any more.
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
                                   group_id, group_position, custom_id, webhook_url)
            select ended.job_id, 'queued', ended.version + 1, ended.owner, ended.model_id, ended.model_version_id, ended.model_ref,
                   ended.image_sha256, i.upload, ended.params, ended.metadata, ended.priority,
                   take_place(ended.model_id, ended.priority, ended.owner), ended.created_at, now(),
                   case when ended.deadline_at > now() then ended.deadline_at end, ended.retain_for, ended.lease_no + 1,
                   ended.attempt_timeout_seconds, ended.attempts_started, 0, ended.attempts_max,
                   greatest(least(ended.interruptions, ended.interruptions_max - 1), 0), ended.interruptions_max, ended.trace_parent,
                   ended.group_id, ended.group_position, ended.custom_id, ended.webhook_url
            from images i where i.owner = ended.owner and i.sha256 = ended.image_sha256;
            if ended.group_id is not null then
                -- Waits for a finish_group under way, so that the next statement sees what it wrote.
                perform from groups g where g.group_id = ended.group_id for no key update;
                update groups g
                set finished_at = null, cancel_requested_at = null, succeeded = null, failed = null, canceled = null, expired = null
                where g.group_id = ended.group_id and g.finished_at is not null;
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
create function grant_group_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    revoke execute on function finish_group(uuid), grant_group_privileges() from public;
    if to_regrole('darkroom_api') is not null then
        grant select, insert, update, delete on groups, group_refusals to darkroom_api;
        grant execute on function finish_group(uuid) to darkroom_api;
    end if;
end $$;
comment on function grant_group_privileges is 'The part of grant_privileges that concerns groups.';

alter function grant_privileges() rename to grant_base_privileges;
create function grant_privileges() returns void
language sql set search_path = pg_catalog, public, pg_temp as $$
    select grant_base_privileges();
    select grant_group_privileges();
$$;
comment on function grant_privileges is 'Gives the four roles what they need and nothing more; can be run again at any time.';
revoke execute on function grant_privileges(), grant_base_privileges() from public;
select grant_privileges();
