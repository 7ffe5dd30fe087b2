-- What operators and owners do to jobs, models and workers: one function a verb, called by REST and by schema ops alike.
-- In plpgsql each statement sees what was committed before it began, so a verb that loses a race looks again.
-- Bodies are bound when they first run: they may name what a later migration of the same release brings (0009).

create table audit (
    audit_id  bigint generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    actor     text not null,
    role      text not null,
    verb      text not null,
    subject   text not null,
    arguments jsonb not null,
    outcome   text not null
);
create index audit_by_time on audit (at);
comment on table audit is 'Who did what as an operator; grows by one row an act, and nobody prunes it.';

create function audited(verb text, subject text, arguments jsonb, outcome text, actor text default null) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into audit (actor, role, verb, subject, arguments, outcome)
    values (coalesce(audited.actor, session_user), coalesce(nullif(current_setting('role'), 'none'), session_user),
            audited.verb, audited.subject, jsonb_strip_nulls(audited.arguments), audited.outcome);
    return audited.outcome;
end $$;
comment on function audited is 'Writes down an act and answers its outcome, so that it can stand around the call of a verb.';

-- The place behind everything that the owner has queued at this level. SQL callers have lanes of their own, which no
-- owner's name can spell: a transaction that somebody leaves open must never make the API's submits wait.
create function take_place(model_id bigint, priority smallint, owner text) returns bigint
language sql set search_path = pg_catalog, public, pg_temp as $$
    insert into lanes as l (model_id, priority, owner, next_seq, taken)
    select $1, $2, $3 || '/sql', 1 + greatest(
               (select o.next_seq from lanes o where o.model_id = $1 and o.priority = $2 and o.owner = $3),
               coalesce((select j.seq from live_jobs j where j.state = 'queued' and j.model_id = $1 and j.priority = $2
                         order by j.priority desc, j.seq limit 1),
                        (select max(o.next_seq) from lanes o where o.model_id = $1 and o.priority = $2),
                        0)), 1
    on conflict (model_id, priority, owner)
    do update set next_seq = greatest(l.next_seq, excluded.next_seq - 1) + 1, taken = 1
    returning next_seq
$$;
comment on function take_place is 'Position of one more job of an owner at a priority of a model, in the fair order of queue/enqueue.sql.';

create function cancel_job(job uuid, owner text) returns text
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
                                       attempts_max, interruptions, interruptions_max, trace_parent, worker, device)
            select g.job_id, 'canceled', g.version + 1, g.owner, g.model_id, g.model_version_id, g.model_ref, g.image_sha256, g.params, g.metadata,
                   g.priority, g.created_at, g.run_at, g.deadline_at, g.retain_for, now() + g.retain_for, g.lease_no, null,
                   g.attempt_timeout_seconds, g.attempts_started, g.attempts_charged, g.attempts_max, g.interruptions, g.interruptions_max,
                   g.trace_parent, null, null
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
comment on function cancel_job is 'requested, canceled, was STATE, or not found. A waiting job ends at once; a running one is asked for, and ends when its worker lets go.';

create function retry_job(job uuid, owner text) returns text
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
                                   interruptions, interruptions_max, trace_parent)
            select ended.job_id, 'queued', ended.version + 1, ended.owner, ended.model_id, ended.model_version_id, ended.model_ref,
                   ended.image_sha256, i.upload, ended.params, ended.metadata, ended.priority,
                   take_place(ended.model_id, ended.priority, ended.owner), ended.created_at, now(),
                   case when ended.deadline_at > now() then ended.deadline_at end, ended.retain_for, ended.lease_no + 1,
                   ended.attempt_timeout_seconds, ended.attempts_started, 0, ended.attempts_max,
                   greatest(least(ended.interruptions, ended.interruptions_max - 1), 0), ended.interruptions_max, ended.trace_parent
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
comment on function retry_job is 'queued, succeeded, input purged, not terminal or not found. A job that ended in vain goes back to the queue under its id, its history kept.';

create function purge_job(job uuid, owner text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    for look in 1..4 loop
        if exists (select from finished_jobs f where f.job_id = purge_job.job and (purge_job.owner is null or f.owner = purge_job.owner)) then
            if purge_finished(array[job]) > 0 then
                perform pg_notify('darkroom_changed', replace(job::text, '-', ''));
                return 'purged';
            elsif exists (select from finished_jobs f where f.job_id = purge_job.job and f.purged_at is not null) then
                return 'purged';
            end if;
        elsif exists (select from live_jobs j where j.job_id = purge_job.job and (purge_job.owner is null or j.owner = purge_job.owner)) then
            return 'not terminal';
        end if;
    end loop;
    return 'not found';
end $$;
comment on function purge_job is 'purged, not terminal or not found. Repeating is fine.';

create function set_job_priority(job uuid, priority int) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    j live_jobs; ended job_state;
begin
    if priority is null or priority not between -100 and 100 then
        raise exception 'priority % does not lie between -100 and 100', coalesce(priority::text, 'null') using errcode = 'invalid_parameter_value';
    end if;
    for look in 1..4 loop
        select * into j from live_jobs l where l.job_id = set_job_priority.job for no key update;
        if found then
            if j.state = 'running' then
                return 'running';
            elsif j.priority <> set_job_priority.priority then
                update live_jobs l set priority = set_job_priority.priority, version = l.version + 1,
                    seq = take_place(l.model_id, set_job_priority.priority::smallint, l.owner)
                where l.job_id = set_job_priority.job;
                perform pg_notify('darkroom_changed', replace(job::text, '-', ''));
            end if;
            return 'set';
        end if;
        select f.state into ended from finished_jobs f where f.job_id = set_job_priority.job;
        if found then
            return 'was ' || ended;
        end if;
    end loop;
    return 'not found';
end $$;
comment on function set_job_priority is 'set, running, was STATE or not found. The job goes to the end of its owner''s lane at that level.';

create function pause_model(name text, why text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update models m set paused_at = coalesce(m.paused_at, now()), pause_reason = pause_model.why where m.name = pause_model.name;
    return case when found then 'paused' else 'not found' end;
end $$;
comment on function pause_model is 'paused or not found. Submits go on, and what runs ends; nothing is claimed.';

create function resume_model(name text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    resumed bigint;
begin
    update models m set paused_at = null, pause_reason = null where m.name = resume_model.name returning m.model_id into resumed;
    if resumed is null then
        return 'not found';
    end if;
    perform pg_notify('darkroom_queued', resumed::text);
    return 'resumed';
end $$;
comment on function resume_model is 'resumed or not found. Repeating is fine.';

create function drain_worker(worker_id bigint) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update workers w set draining = true where w.worker_id = drain_worker.worker_id and w.ended_at is null and w.lease_until > now();
    if found then
        perform pg_notify('darkroom_worker', drain_worker.worker_id::text);
        return 'draining';
    end if;
    return case when exists (select from workers w where w.worker_id = drain_worker.worker_id) then 'gone' else 'not found' end;
end $$;
comment on function drain_worker is 'draining, gone or not found. The worker claims nothing more, finishes what it has, and leaves.';

-- Nearly free to keep: jobs end in the order of time, so that a few bytes tell where in a partition a minute lies.
create index finished_jobs_by_time on finished_jobs using brin (finished_at) with (pages_per_range = 16, autosummarize = on);
-- Few rows, and none of the jobs that succeed.
create index finished_jobs_in_vain on finished_jobs (finished_at) where state in ('failed', 'expired');

create function finished_per_second(model_id bigint) returns float8
language plpgsql stable set search_path = pg_catalog, public, pg_temp as $$
declare
    span int; jobs bigint;
begin
    -- A busy model needs few seconds to tell its rate, a slow one needs minutes.
    foreach span in array array[10, 60, 600] loop
        select count(*) into jobs from finished_jobs f
        where f.model_id = finished_per_second.model_id and f.claimed_at is not null
          and f.finished_at > now() - make_interval(secs => span) and f.job_id >= uuid_from_time(now() - interval '2 days');
        exit when jobs >= 100;
    end loop;
    return jobs / span::float8;
end $$;
comment on function finished_per_second is 'Measured over the last 10 s, 60 s or 10 min, of jobs that were made in the last two days.';

create function explain_job(job uuid, owner text)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language plpgsql stable set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    j live_jobs; m models; w workers; ended finished_jobs; reasons text[] := '{}'; code text;
    counted_max constant int := 10000;
begin
    select * into j from live_jobs l where l.job_id = explain_job.job and (explain_job.owner is null or l.owner = explain_job.owner);
    if not found then
        return query select f.job_id, f.state::text, m.name, f.priority, 0::bigint, 0::bigint, 0::float8, null::float8, '{}'::text[]
            from finished_jobs f join models m using (model_id)
            where f.job_id = explain_job.job and (explain_job.owner is null or f.owner = explain_job.owner);
        return;
    end if;
    select * into m from models where models.model_id = j.model_id;
    job_id := j.job_id;
    status := j.state;
    model := m.name;
    priority := j.priority;
    select count(*) into live_workers from workers w
    where w.ended_at is null and w.lease_until > now() and not w.draining and (cardinality(w.models) = 0 or m.name = any(w.models));
    finished_per_second := finished_per_second(j.model_id);
    if j.state = 'running' then
        jobs_ahead := 0;
        select * into w from workers where workers.worker_id = j.worker_id;
        if w.ended_at is not null or w.lease_until < now() then
            reasons := reasons || format('its worker %s has been silent for too long: its lease ran out at %s, and housekeeping takes the job back', w.name, w.lease_until);
        end if;
        if j.cancel_requested then
            reasons := reasons || format('a cancel was asked for, and its worker %s has not let go yet', w.name);
        end if;
        if j.attempt_deadline_at < now() then
            reasons := reasons || format('its attempt should have ended by %s: housekeeping takes it away', j.attempt_deadline_at);
        end if;
    else
        -- Two ranges of one index, so that a job at the front does not look at what waits behind it.
        select count(*) into jobs_ahead from (
            (select from live_jobs l where l.state = 'queued' and l.model_id = j.model_id and l.priority > j.priority limit counted_max)
            union all
            (select from live_jobs l where l.state = 'queued' and l.model_id = j.model_id and l.priority = j.priority and l.seq < j.seq limit counted_max)
            limit counted_max) ahead;
        if j.state = 'scheduled' then
            code := j.problem ->> 'code';
            if j.run_at <= now() then
                reasons := reasons || format('it has been due since %s, and no housekeeping has queued it: is an API or a worker alive?', j.run_at);
            elsif code is not null then
                reasons := reasons || format('it backs off until %s, after attempt %s: %s', j.run_at, j.attempts_started, code);
            else
                reasons := reasons || format('it is planned for %s', j.run_at);
            end if;
        end if;
        if m.paused_at is not null then
            reasons := reasons || format('model %s has been paused since %s: %s', m.name, m.paused_at, coalesce(m.pause_reason, 'nobody said why'));
        end if;
        if live_workers = 0 then
            select * into w from workers where cardinality(workers.models) = 0 or m.name = any(workers.models) order by workers.lease_until desc limit 1;
            reasons := reasons || case
                when w.worker_id is null then format('no worker that runs model %s has ever been here', m.name)
                when w.ended_at is null and w.lease_until > now() then format('the only workers that run model %s are draining', m.name)
                else format('no live worker runs model %s; the last one, %s, was there until %s', m.name, w.name, least(w.ended_at, w.lease_until)) end;
        end if;
        if jobs_ahead > 0 then
            reasons := reasons || format('%s%s jobs of its model are ahead of it', case when jobs_ahead = counted_max then 'at least ' else '' end, jobs_ahead);
        end if;
        if m.paused_at is null and live_workers > 0 and (jobs_ahead = 0 or finished_per_second > 0) then
            starts_in_seconds := greatest(extract(epoch from j.run_at - now()), 0)
                + case when jobs_ahead = 0 then 0 else jobs_ahead / finished_per_second end;
        end if;
    end if;
    blocked_by := reasons;
    return next;
end $$;
comment on function explain_job is 'Why a job is where it is; no row if there is no such job. Counts at most 10000 jobs ahead.';

-- uuidv7() comes with PostgreSQL 18 only.
create function new_job_id() returns uuid language sql volatile set search_path = pg_catalog, public, pg_temp as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
               placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;
comment on function new_job_id is 'A UUIDv7 of this moment.';

create function checked_params(manifest jsonb, asked jsonb) returns jsonb
language plpgsql immutable set search_path = pg_catalog, public, pg_temp as $$
declare
    name text; spec jsonb; value jsonb; filled jsonb := '{}';
begin
    if jsonb_typeof(asked) is distinct from 'object' then
        raise exception 'params must be a JSON object' using errcode = 'invalid_parameter_value';
    end if;
    for name in select jsonb_object_keys(asked) loop
        if manifest -> 'params' -> name is null then
            raise exception 'model % has no parameter %', manifest ->> 'name', name using errcode = 'invalid_parameter_value',
                hint = 'Its manifest lists them: select manifest -> ''params'' from model_versions.';
        end if;
    end loop;
    for name, spec in select * from jsonb_each(coalesce(manifest -> 'params', '{}')) loop
        value := coalesce(asked -> name, spec -> 'default');
        if not (case spec ->> 'type'
                when 'boolean' then jsonb_typeof(value) = 'boolean'
                when 'number' then jsonb_typeof(value) = 'number'
                when 'integer' then jsonb_typeof(value) = 'number' and value::text !~ '\.|[eE]'
                else false end) then
            raise exception 'parameter % must be of type %, not %', name, spec ->> 'type', value using errcode = 'invalid_parameter_value';
        elsif spec ->> 'type' <> 'boolean' and (value::numeric < (spec ->> 'minimum')::numeric or value::numeric > (spec ->> 'maximum')::numeric) then
            raise exception 'parameter % must lie between % and %', name, coalesce(spec ->> 'minimum', '…'), coalesce(spec ->> 'maximum', '…')
                using errcode = 'invalid_parameter_value';
        end if;
        filled := filled || jsonb_build_object(name, value);
    end loop;
    return filled;
end $$;
comment on function checked_params is 'What the model takes, defaults filled in; the same rules as Manifest::params.';

create function enqueue_job(model text, owner text, image text, params jsonb, metadata jsonb, priority int, run_at timestamptz, deadline_at timestamptz,
                            retain_for interval, attempts_max int, interruptions_max int, attempt_timeout_seconds int) returns uuid
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    asked    text[] := regexp_match(enqueue_job.model, '^([a-z0-9][a-z0-9._-]*)(?:@sha256:([0-9a-f]{64})|@([a-z][a-z0-9._-]*)|:(\d{1,9}))?$');
    by_alias text := case when asked[2] is null and asked[4] is null then coalesce(asked[3], 'default') end;
    picked model_versions; stored images; new_id uuid := new_job_id(); due timestamptz := greatest(enqueue_job.run_at, clock_timestamp());
begin
    select v.* into picked from model_versions v join models m using (model_id)
    where m.name = asked[1] and v.retired_at is null
      and (asked[2] is null or v.digest = decode(asked[2], 'hex')) and (asked[4] is null or v.version = asked[4]::int)
      and (by_alias is null or exists (select from model_aliases a where a.model_version_id = v.model_version_id and a.alias = by_alias));
    if not found then
        raise exception 'no model %', coalesce(enqueue_job.model, 'null') using errcode = 'no_data_found',
            hint = 'select name, version, aliases from ops.models where retired_at is null;';
    elsif priority is null or priority not between -100 and 100 then
        raise exception 'priority % does not lie between -100 and 100', coalesce(priority::text, 'null') using errcode = 'invalid_parameter_value';
    elsif deadline_at <= due then
        raise exception 'the deadline % is past before the job is due', deadline_at using errcode = 'invalid_parameter_value';
    elsif coalesce(jsonb_typeof(metadata), 'object') <> 'object' then
        raise exception 'metadata must be a JSON object' using errcode = 'invalid_parameter_value';
    elsif image !~ '^(sha256:)?[0-9a-f]{64}$' then
        raise exception 'an image is named by its SHA-256 in hex, not by %', image using errcode = 'invalid_parameter_value';
    end if;
    -- Counted, so that it stays for as long as the job needs it.
    update images i set jobs = i.jobs + 1, last_used_at = now(), unused_since = null
    where i.owner = enqueue_job.owner and i.sha256 = decode(right(image, 64), 'hex') and i.purged_at is null
    returning i.* into stored;
    if not found then
        raise exception '% has no image %', coalesce(enqueue_job.owner, 'null'), coalesce(image, 'null') using errcode = 'no_data_found',
            hint = 'An image has to be stored before a job can name it: submit it once through POST /v1/jobs.';
    end if;
    insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, image_upload, params, metadata, priority, seq,
                           created_at, run_at, deadline_at, retain_for, attempt_timeout_seconds, attempts_max, interruptions_max)
    values (new_id, case when enqueue_job.run_at > clock_timestamp() then 'scheduled' else 'queued' end::job_state, stored.owner, picked.model_id,
            picked.model_version_id, case when by_alias is null then enqueue_job.model else asked[1] || '@' || by_alias end, stored.sha256, stored.upload,
            checked_params(picked.manifest, coalesce(enqueue_job.params, '{}')), coalesce(enqueue_job.metadata, '{}'), enqueue_job.priority,
            take_place(picked.model_id, enqueue_job.priority::smallint, stored.owner), clock_timestamp(), due, enqueue_job.deadline_at,
            enqueue_job.retain_for, enqueue_job.attempt_timeout_seconds, enqueue_job.attempts_max, enqueue_job.interruptions_max);
    perform pg_notify('darkroom_queued', picked.model_id::text);
    return new_id;
end $$;
comment on function enqueue_job is 'Queues one job in the transaction of the caller; until that ends, no other submit of the same image by the same owner goes on.';
