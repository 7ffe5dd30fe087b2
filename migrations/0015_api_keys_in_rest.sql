-- Limits of API keys, and their place in the contract.

alter table api_keys
    add column requests_per_second float8,
    add column burst int,
    add column queued_jobs_max bigint,
    add column stored_bytes_max bigint,
    add constraint limits_are_not_negative check (requests_per_second >= 0 and burst >= 1 and queued_jobs_max >= 0 and stored_bytes_max >= 0);
comment on column api_keys.requests_per_second is 'Requests a second on the long run, counted by each API process for itself; null: what the service gives to any key, 0: no limit.';
comment on column api_keys.burst is 'Requests that may come at once; null: as any key.';
comment on column api_keys.queued_jobs_max is 'Jobs of the owner that have not ended, before a submit through this key is refused; null: as any key, 0: no limit.';
comment on column api_keys.stored_bytes_max is 'Bytes of the owner''s stored images, before an upload through this key is refused; null: as any key, 0: no limit.';

create function revoke_api_key(key_id text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update api_keys k set revoked_at = coalesce(k.revoked_at, now()) where k.key_id = revoke_api_key.key_id;
    return case when found then 'revoked' else 'not found' end;
end $$;
comment on function revoke_api_key is 'revoked or not found. Processes that have just seen the key believe it for a few seconds more.';

create view ops.api_keys as
select key_id, name, owner, scopes, created_at, expires_at, revoked_at,
       case when revoked_at is not null then 'revoked' when expires_at <= now() then 'expired' else 'valid' end as status,
       requests_per_second, burst, queued_jobs_max, stored_bytes_max
from api_keys;
comment on view ops.api_keys is 'The keys of the REST side, without their secrets.';
comment on column ops.api_keys.key_id is 'What a key begins with: dk_ and these digits.';
comment on column ops.api_keys.name is 'What it is for, as its maker said.';
comment on column ops.api_keys.owner is 'Whose jobs it sees; several keys may share one owner.';
comment on column ops.api_keys.scopes is 'What it may do: submit, read, operate, admin.';
comment on column ops.api_keys.created_at is 'When it was made.';
comment on column ops.api_keys.expires_at is 'Until when it is valid; empty: until it is revoked.';
comment on column ops.api_keys.revoked_at is 'When it was revoked.';
comment on column ops.api_keys.status is 'valid, expired or revoked.';
comment on column ops.api_keys.requests_per_second is 'Requests a second on the long run, for each API process; empty: as any key, 0: no limit.';
comment on column ops.api_keys.burst is 'Requests that may come at once; empty: as any key.';
comment on column ops.api_keys.queued_jobs_max is 'Jobs of its owner that have not ended, before its submits are refused; empty: as any key, 0: no limit.';
comment on column ops.api_keys.stored_bytes_max is 'Bytes of its owner''s images, before its uploads are refused; empty: as any key, 0: no limit.';

create function ops.revoke_key(key_id text) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := revoke_api_key(key_id);
begin
    if outcome = 'not found' then
        raise exception 'there is no API key %', coalesce(key_id, 'null') using errcode = 'no_data_found', hint = 'select key_id, name, owner from ops.api_keys;';
    end if;
    return audited('revoke_key', key_id, '{}', outcome);
end $$;
comment on function ops.revoke_key is 'Ends an API key for good, by its key_id. Repeating is fine.';
comment on column ops.audit.verb is 'Which act: cancel, retry, retry_failed, set_priority, pause, resume, drain, purge, enqueue, create_key, revoke_key, set_alias, retire_version.';

-- What was granted until now stays where it is said; what comes here is granted on top, so that one call gives all of it.
alter function grant_privileges() rename to grant_privileges_on_jobs;
create function grant_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare
    verbs constant text[] := array['revoke_api_key', 'set_model_alias', 'retire_model_version'];
    f regprocedure;
begin
    perform grant_privileges_on_jobs();
    for f in select p.oid from pg_proc p
             where p.pronamespace = 'public'::regnamespace and p.proname = any(verbs || array['grant_privileges', 'grant_privileges_on_jobs']) loop
        execute format('revoke execute on function %s from public', f);
    end loop;
    if to_regrole('darkroom_api') is not null then
        grant update (retired_at) on model_versions to darkroom_api;
        for f in select p.oid from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = any(verbs) loop
            execute format('grant execute on function %s to darkroom_api', f);
        end loop;
    end if;
end $$;
comment on function grant_privileges is 'Gives the four roles what they need and nothing more; can be run again at any time.';
select grant_privileges();
