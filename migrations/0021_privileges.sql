-- Who may do what.

-- Roles belong to the whole cluster: another database may have made them, perhaps at this moment. Where this user may not
-- create roles, an administrator creates them and runs grant_privileges() again.
create function make_roles() returns int
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare role text; made int := 0;
begin
    foreach role in array array['darkroom_reader', 'darkroom_operator', 'darkroom_worker', 'darkroom_api'] loop
        continue when to_regrole(role) is not null;
        begin
            execute format('create role %I nologin', role);
            made := made + 1;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then raise notice 'role % was not created: not allowed to this user', role;
        end;
    end loop;
    return made;
end $$;
comment on function make_roles is 'Makes those of the four roles that are missing. Answers how many it made; grant_privileges() has to follow.';

select make_roles();

-- A migration that adds a table or a function of `public` replaces this function with one that names it, and calls it.
create function grant_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    given record; object text; f regprocedure;
    -- Functions of `public`, by the role that calls them. The views of `ops` call the first ones with the rights of their reader.
    of_views  constant text[] := array['uuid_from_time', 'with_waits', 'oldest_snapshot_seconds', 'job_status', 'latency_period', 'stage_latencies', 'shown_url', 'shown_error', 'cluster_id'];
    of_worker constant text[] := array['job_status', 'make_partitions', 'make_event_partitions', 'adopt_cluster', 'wake', 'fold_history', 'settle', 'publish_starts', 'publish_event', 'end_trial', 'report_image'];
    of_api    constant text[] := of_views || array[
        'settle', 'cancel_job', 'retry_job', 'checked_params', 'purge_job', 'set_job_priority', 'infer_micros', 'micros', 'explain_job', 'finished_per_second', 'take_place', 'new_job_id',
        'pause_model', 'resume_model', 'push_model_version', 'set_model_alias', 'delete_model_alias', 'retire_model_version', 'unretire_model_version',
        'prefetch_model_version', 'drain_worker', 'revoke_api_key', 'audited', 'prune_audit',
        'finish_batch', 'publish_event', 'redeliver_webhook', 'create_webhook_endpoint', 'rotate_webhook_secret', 'purge_finished', 'problem_code_only',
        'purge_image', 'name_upload', 'void_uploads',
        'make_partitions', 'make_event_partitions', 'fold_history', 'prune_partitions', 'prune_events', 'end_trial', 'adopt_cluster', 'wake'];
    internal  constant text[] := array['goes_back', 'is_first_ready_version', 'make_default_if_none', 'enqueue_job', 'refused', 'make_roles', 'grant_privileges'];
    -- Functions of `ops` that change nothing. An operator may call the other ones too.
    reading   constant text[] := array['job_name', 'job_id', 'first_job_id', 'explain'];
begin
    -- By default everyone may call a new function.
    for f in
        select p.oid from pg_proc p
        where p.pronamespace = 'ops'::regnamespace
           or p.pronamespace = 'public'::regnamespace and p.proname = any(of_views || of_worker || of_api || internal)
    loop
        execute format('revoke execute on function %s from public', f);
    end loop;
    for given in
        select r.role, p.oid::regprocedure as f
        from (values ('darkroom_reader', of_views, reading), ('darkroom_operator', of_views, null),
                     ('darkroom_api', of_api, reading), ('darkroom_worker', of_worker, '{}')) as r(role, of_public, of_ops)
        join pg_proc p on p.pronamespace = 'public'::regnamespace and p.proname = any(r.of_public)
                       or p.pronamespace = 'ops'::regnamespace and (r.role = 'darkroom_operator' or p.proname = any(r.of_ops))
        where to_regrole(r.role) is not null
    loop
        execute format('grant execute on function %s to %I', given.f, given.role);
    end loop;
    for given in
        select * from (values
            ('darkroom_reader',   'usage', array['schema ops']),
            ('darkroom_reader',   'select', array['all tables in schema ops']),
            ('darkroom_operator', 'usage', array['schema ops']),
            ('darkroom_operator', 'select', array['all tables in schema ops']),
            ('darkroom_api',      'usage', array['schema ops', 'schema public']),
            ('darkroom_api',      'select', array['all tables in schema ops']),
            ('darkroom_api',      'select, insert, update, delete', array['live_jobs', 'finished_jobs', 'attempts', 'idempotency_keys',
                                  'batches', 'batch_refusals', 'webhook_endpoints', 'webhook_secrets',
                                  'webhook_previous_secrets', 'webhook_deliveries']),
            ('darkroom_api',      'select, insert, update', array['images', 'lanes', 'api_keys']),
            ('darkroom_api',      'select, insert, update, delete', array['signed_uploads']),
            ('darkroom_api',      'select, insert, update, delete', array['model_aliases']),
            ('darkroom_api',      'select, update', array['orphan_sweep']),
            ('darkroom_api',      'select, insert, update', array['bucket_marker']),
            ('darkroom_api',      'select, insert, update, delete', array['bucket_checks']),
            ('darkroom_api',      'select', array['models', 'model_versions', 'workers', 'events', 'event_cluster', '_sqlx_migrations']),
            ('darkroom_api',      'update (paused_at, pause_reason)', array['models']),
            ('darkroom_api',      'update (retired_at, alias_wanted, prefetch_at)', array['model_versions']),
            ('darkroom_api',      'update (draining)', array['workers']),
            ('darkroom_api',      'insert', array['audit', 'ended_counts']),
            ('darkroom_worker',   'usage', array['schema public']),
            ('darkroom_worker',   'select, update', array['live_jobs']),
            ('darkroom_worker',   'select, insert, update', array['workers']),
            ('darkroom_worker',   'update (trial_lease_no, trial_worker_id, trial_expires_at, load_error, load_error_worker, load_error_at)',
                                  array['model_versions']),
            -- To lock a row that it will delete, a role needs the right to update some column.
            ('darkroom_worker',   'select, delete, update (created_at)', array['idempotency_keys']),
            ('darkroom_worker',   'select, insert, update, delete', array['bucket_checks']),
            ('darkroom_worker',   'select', array['models', 'model_versions', 'model_aliases', 'bucket_marker', '_sqlx_migrations'])
        ) as g(role, privileges, objects)
        where to_regrole(g.role) is not null
    loop
        foreach object in array given.objects loop
            -- `_sqlx_migrations` exists only where sqlx runs the migrations. A later migration makes its table and calls this again.
            continue when object !~ ' ' and to_regclass(object) is null;
            execute format('grant %s on %s to %I', given.privileges, object, given.role);
        end loop;
    end loop;
    -- For a role that logs in itself: members bring their own settings. In this database only, and where this user may.
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

select grant_privileges();
