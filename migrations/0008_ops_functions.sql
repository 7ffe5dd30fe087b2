-- The rest of the contract: what an operator does, and who may do what.
-- Each function runs with the rights of the schema's owner and a fixed search_path, gives up after five seconds behind a
-- lock, writes one row of ops.audit, and raises where it cannot do what was asked, with the next step as a hint.

create function ops.job_id(id text) returns uuid
language plpgsql immutable strict parallel safe set search_path = pg_catalog, pg_temp as $$
begin
    return replace(id, 'job_', '')::uuid;
exception when invalid_text_representation then
    raise exception '% is not the id of a job', id using errcode = 'invalid_parameter_value', hint = 'An id is job_ and 32 hex digits, or a uuid.';
end $$;
comment on function ops.job_id is 'The uuid of an id as clients see it; uuids are fine too.';

create function ops.first_job_id(made_at timestamptz) returns uuid
language sql stable strict parallel safe as $$ select uuid_from_time(made_at) $$;
comment on function ops.first_job_id is 'The smallest id of a job made at this time: job_id >= ops.first_job_id(now() - interval ''1 day'') opens no older partition.';

create function refused(job uuid, outcome text) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    id text := ops.job_name(job);
begin
    if outcome = 'not found' then
        raise exception 'there is no job %', coalesce(id, 'null') using errcode = 'no_data_found', hint = 'Its tombstone may have been pruned; is the id whole?';
    elsif outcome = 'not terminal' then
        raise exception 'job % has not ended', id using errcode = 'object_not_in_prerequisite_state',
            hint = format('select * from ops.explain(%L); or end it first: select ops.cancel(%L);', id, id);
    elsif outcome = 'running' then
        raise exception 'job % is in a worker''s hands already', id using errcode = 'object_not_in_prerequisite_state', hint = format('select * from ops.explain(%L);', id);
    elsif outcome = 'input purged' then
        raise exception 'job % cannot run again: its input was deleted', id using errcode = 'object_not_in_prerequisite_state', hint = 'Submit the image anew.';
    end if;
    raise exception 'job % has %: that is final', id, replace(outcome, 'was ', '') using errcode = 'object_not_in_prerequisite_state',
        hint = format('select status, result, problem from ops.jobs where job_id = %L;', job);
end $$;
comment on function refused is 'Raises why a verb did nothing to a job.';

create function ops.cancel(job uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := replace(cancel_job(job, null), 'was canceled', 'canceled');
begin
    if outcome not in ('canceled', 'requested') then
        perform refused(job, outcome);
    end if;
    return audited('cancel', ops.job_name(job), '{}', outcome);
end $$;
comment on function ops.cancel(uuid) is 'Cancels a job: canceled at once if it waits, requested of its worker if it runs. Repeating is fine.';

create function ops.retry(job uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := retry_job(job, null);
begin
    if outcome <> 'queued' then
        perform refused(job, outcome);
    end if;
    return audited('retry', ops.job_name(job), '{}', outcome);
end $$;
comment on function ops.retry(uuid) is 'Queues a failed, canceled or expired job again: same id, history kept, a new budget of attempts, at the end of its owner''s lane.';

create function ops.retry_failed(model text, code text default null, since timestamptz default now() - interval '1 day', max int default 1000) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    retried bigint := 0; failed uuid;
begin
    if not exists (select from models m where m.name = retry_failed.model) then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    elsif max is null or max not between 1 and 10000 then
        raise exception 'max must lie between 1 and 10000, not be %', coalesce(max::text, 'null') using errcode = 'invalid_parameter_value', hint = 'Call it again until it answers 0.';
    end if;
    for failed in
        -- Oldest first, but taken in the order in which submits lock lanes.
        select o.job_id from (
            select f.job_id, f.priority, f.owner from finished_jobs f join models m using (model_id)
            where f.state = 'failed' and f.purged_at is null and m.name = retry_failed.model and f.finished_at >= retry_failed.since
              and (retry_failed.code is null or f.problem ->> 'code' = retry_failed.code)
            order by f.finished_at limit retry_failed.max) o
        order by o.priority, o.owner, o.job_id
    loop
        if retry_job(failed, null) = 'queued' then
            retried := retried + 1;
        end if;
    end loop;
    perform audited('retry_failed', model, jsonb_build_object('code', code, 'since', since, 'max', max), retried || ' queued');
    return retried;
end $$;
comment on function ops.retry_failed is 'Retries the jobs of a model that failed since then, with this code or any; at most so many, oldest first. Answers how many.';

create function ops.set_priority(job uuid, priority int) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := set_job_priority(job, priority);
begin
    if outcome <> 'set' then
        perform refused(job, outcome);
    end if;
    return audited('set_priority', ops.job_name(job), jsonb_build_object('priority', priority), outcome);
end $$;
comment on function ops.set_priority(uuid, int) is 'Moves a waiting job to another priority, from -100 to 100, at the end of its owner''s lane there.';

create function ops.purge(job uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := purge_job(job, null);
begin
    if outcome <> 'purged' then
        perform refused(job, outcome);
    end if;
    return audited('purge', ops.job_name(job), '{}', outcome);
end $$;
comment on function ops.purge(uuid) is 'Deletes result, parameters, metadata and the words of problems of a job that ended; the row stays as a tombstone. Not to be undone.';

create function ops.explain(job uuid)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    return query select * from explain_job(job, null);
    if not found then
        perform refused(job, 'not found');
    end if;
end $$;
comment on function ops.explain(uuid) is 'Why a job is where it is: jobs ahead of it (up to 10000), workers, rate, estimated start, and what blocks it, in words.';

-- The same, by the id that clients see.
create function ops.cancel(job text) returns text language sql as $$ select ops.cancel(ops.job_id(job)) $$;
create function ops.retry(job text) returns text language sql as $$ select ops.retry(ops.job_id(job)) $$;
create function ops.set_priority(job text, priority int) returns text language sql as $$ select ops.set_priority(ops.job_id(job), priority) $$;
create function ops.purge(job text) returns text language sql as $$ select ops.purge(ops.job_id(job)) $$;
create function ops.explain(job text)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language sql stable as $$ select * from ops.explain(ops.job_id(job)) $$;
comment on function ops.cancel(text) is 'ops.cancel by an id as clients see it: job_ and 32 hex digits.';
comment on function ops.retry(text) is 'ops.retry by an id as clients see it.';
comment on function ops.set_priority(text, int) is 'ops.set_priority by an id as clients see it.';
comment on function ops.purge(text) is 'ops.purge by an id as clients see it.';
comment on function ops.explain(text) is 'ops.explain by an id as clients see it.';

create function ops.pause(model text, why text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := pause_model(model, why);
begin
    if outcome = 'not found' then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    end if;
    return audited('pause', model, jsonb_build_object('why', why), outcome);
end $$;
comment on function ops.pause is 'Stops the claiming of a model''s jobs, and says why; submits go on, and what runs ends.';

create function ops.resume(model text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := resume_model(model);
begin
    if outcome = 'not found' then
        raise exception 'there is no model %', coalesce(model, 'null') using errcode = 'no_data_found', hint = 'select distinct name from ops.models;';
    end if;
    return audited('resume', model, '{}', outcome);
end $$;
comment on function ops.resume is 'Lets a model''s jobs be claimed again. Repeating is fine.';

create function ops.drain(worker bigint) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := drain_worker(worker);
begin
    if outcome <> 'draining' then
        raise exception '%', case outcome when 'gone' then format('worker %s has left already', worker) else format('there is no worker %s', worker) end
            using errcode = case outcome when 'gone' then 'object_not_in_prerequisite_state' else 'no_data_found' end,
                  hint = 'select worker_id, name, status from ops.workers where status in (''alive'', ''draining'');';
    end if;
    return audited('drain', worker::text, '{}', outcome);
end $$;
comment on function ops.drain is 'Asks a worker to claim nothing more, finish what it has, and leave. Repeating is fine.';

create function ops.enqueue(model text, owner text, image text, params jsonb default '{}', metadata jsonb default '{}', priority int default 0,
                            run_at timestamptz default null, deadline timestamptz default null, retain_for interval default '30 days',
                            attempts_max int default 3, interruptions_max int default 5, attempt_timeout_seconds int default 120) returns uuid
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    job uuid := enqueue_job(model, owner, image, params, metadata, priority, run_at, deadline, retain_for, attempts_max, interruptions_max, attempt_timeout_seconds);
begin
    perform audited('enqueue', ops.job_name(job), jsonb_build_object('model', model, 'owner', owner), 'queued');
    return job;
end $$;
comment on function ops.enqueue is 'Queues a job over an image that its owner has stored, in your own transaction: it is there if and when you commit. Keep that short: meanwhile submits of the same image by the same owner wait. Workers are notified in your commit, which takes a lock of the whole database: for thousands a second use REST.';

-- Who may do what, said once. Any later migration that adds a table or a function adds a line by replacing this function,
-- and runs it; so does the owner of the schema who has to make the roles by hand. What does not exist is passed over.
create function grant_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    given record; object text; f regprocedure;
    verbs constant text[] := array['cancel_job', 'retry_job', 'purge_job', 'set_job_priority', 'pause_model', 'resume_model', 'drain_worker', 'explain_job',
        'finished_per_second', 'audited', 'take_place', 'purge_finished', 'problem_code_only', 'prune_partitions', 'make_partitions', 'uuid_from_time'];
    internal constant text[] := verbs || array['enqueue_job', 'new_job_id', 'checked_params', 'refused', 'oldest_snapshot_seconds', 'grant_privileges'];
    reading constant text[] := array['job_name', 'job_id', 'first_job_id', 'explain'];
begin
    -- By default everyone may call a new function.
    for f in select p.oid from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = any(internal) or p.pronamespace = 'ops'::regnamespace loop
        execute format('revoke execute on function %s from public', f);
    end loop;
    for given in
        select * from (values
            ('darkroom_reader',   'usage', array['schema ops']),
            ('darkroom_operator', 'usage', array['schema ops']),
            ('darkroom_api',      'usage', array['schema ops', 'schema public']),
            ('darkroom_worker',   'usage', array['schema public']),
            ('darkroom_api',      'select, insert, update, delete', array['live_jobs', 'finished_jobs', 'attempts', 'idempotency_keys']),
            ('darkroom_api',      'select, insert, update', array['images', 'lanes', 'api_keys', 'model_aliases']),
            ('darkroom_api',      'select, update', array['orphan_sweep']),
            ('darkroom_api',      'select', array['models', 'model_versions', 'workers', '_sqlx_migrations']),
            ('darkroom_api',      'update (paused_at, pause_reason)', array['models']),
            ('darkroom_api',      'update (draining)', array['workers']),
            ('darkroom_api',      'insert', array['audit']),
            ('darkroom_worker',   'select, update, delete', array['live_jobs']),
            ('darkroom_worker',   'insert', array['finished_jobs', 'attempts']),
            ('darkroom_worker',   'select, insert, update', array['workers']),
            -- A row that is locked to be deleted needs the right to update some column.
            ('darkroom_worker',   'select, delete, update (created_at)', array['idempotency_keys']),
            ('darkroom_worker',   'select', array['models', 'model_versions', 'model_aliases', '_sqlx_migrations'])
        ) as g(role, privileges, objects)
        where to_regrole(g.role) is not null
    loop
        foreach object in array given.objects loop
            continue when object not like 'schema %' and to_regclass(object) is null;
            execute format('grant %s on %s to %I', given.privileges, object, given.role);
        end loop;
    end loop;
    for given in
        select r.role, p.oid::regprocedure as f
        from (values ('darkroom_reader'), ('darkroom_operator'), ('darkroom_api'), ('darkroom_worker')) as r(role) cross join pg_proc p
        where to_regrole(r.role) is not null and case
            when p.pronamespace = 'ops'::regnamespace then
                r.role = 'darkroom_operator' or r.role in ('darkroom_reader', 'darkroom_api') and p.proname = any(reading)
            when p.pronamespace = 'public'::regnamespace then case r.role
                when 'darkroom_api' then p.proname = any(verbs) or p.proname = 'oldest_snapshot_seconds'
                when 'darkroom_worker' then p.proname = 'make_partitions'
                else p.proname in ('uuid_from_time', 'oldest_snapshot_seconds') end
            else false end
    loop
        execute format('grant execute on function %s to %I', given.f, given.role);
    end loop;
    for given in
        select r.role, c.oid::regclass as view
        from (values ('darkroom_reader'), ('darkroom_operator'), ('darkroom_api')) as r(role) cross join pg_class c
        where to_regrole(r.role) is not null and c.relnamespace = 'ops'::regnamespace and c.relkind = 'v'
    loop
        execute format('grant select on %s to %I', given.view, given.role);
    end loop;
    -- For a role that logs in itself: members bring their own settings. In this database only, and where we may.
    for given in
        select * from (values ('darkroom_reader', '60s'), ('darkroom_operator', '60s'), ('darkroom_api', '30s'), ('darkroom_worker', '30s')) as s(role, longest)
        where to_regrole(s.role) is not null
    loop
        begin
            execute format('alter role %I in database %I set statement_timeout = %L', given.role, current_database(), given.longest);
            execute format('alter role %I in database %I set idle_in_transaction_session_timeout = ''60s''', given.role, current_database());
            execute format('alter role %I in database %I set lock_timeout = ''10s''', given.role, current_database());
        exception when insufficient_privilege then
            raise notice 'settings of role % were left alone: not allowed to this user', given.role;
        end;
    end loop;
end $$;
comment on function grant_privileges is 'Gives the four roles what they need and nothing more; can be run again at any time.';

-- Programs that do not own the tables make partitions too.
alter function make_partitions(int) security definer set search_path = public, pg_temp;
select grant_privileges();
