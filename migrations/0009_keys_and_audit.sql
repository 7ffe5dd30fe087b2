-- API keys, and the audit.

create table api_keys (
    key_id              text primary key,
    secret_sha256       bytea not null check (octet_length(secret_sha256) = 32),
    name                text not null,
    owner               text not null,
    scopes              text[] not null,
    requests_per_second float8,
    burst               int,
    queued_jobs_max     bigint,
    stored_bytes_max    bigint,
    priority_max        smallint,
    created_at          timestamptz not null default now(),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    last_used_at        timestamptz,
    constraint owners_are_short_names check (owner ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    constraint scopes_are_known check (scopes <@ array['submit', 'read', 'webhooks', 'operate', 'admin'] and cardinality(scopes) > 0),
    constraint limits_are_not_negative check (requests_per_second >= 0 and burst >= 1 and queued_jobs_max >= 0 and stored_bytes_max >= 0),
    constraint priority_max_lies_between_0_and_100 check (priority_max between 0 and 100)
);
comment on table  api_keys is 'A key reads dk_<key_id>_<secret>; only the SHA-256 of the secret is kept.';
comment on column api_keys.owner is 'Whose jobs the key sees; several keys may share one owner.';
comment on column api_keys.requests_per_second is 'Requests a second in the long run, counted by each API process for itself; null: the default of the service, 0: no limit.';
comment on column api_keys.burst is 'Requests that may come at once; null: the default of the service.';
comment on column api_keys.queued_jobs_max is 'A submit through this key is refused while its owner has this many jobs that have not ended; null: the default of the service, 0: no limit.';
comment on column api_keys.stored_bytes_max is 'An upload through this key is refused while its owner stores this many bytes of images; null: the default of the service, 0: no limit.';
comment on column api_keys.priority_max is 'A submit through this key is refused if its priority is higher; null: the default of the service.';
comment on column api_keys.last_used_at is 'When a request last came with the key, to about a minute: a process writes it at most once a minute for each key.';

create function revoke_api_key(key_id text) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update api_keys k set revoked_at = coalesce(k.revoked_at, now()) where k.key_id = revoke_api_key.key_id;
    return case when found then 'revoked' else 'not found' end;
end $$;
comment on function revoke_api_key is 'Answers revoked or not found. API processes that cached the key accept it for a few seconds more.';

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
comment on table audit is 'What operators did, and what was done to keys, secrets and data: one row an act. Refused logins are counted: a few rows a minute, however many there are. API processes prune old rows (--audit-retain-days).';

create function audited(verb text, subject text, arguments jsonb, outcome text, actor text default null) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into audit (actor, role, verb, subject, arguments, outcome)
    values (coalesce(audited.actor, session_user), coalesce(nullif(current_setting('role'), 'none'), session_user),
            audited.verb, audited.subject, jsonb_strip_nulls(audited.arguments), audited.outcome);
    return audited.outcome;
end $$;
comment on function audited is 'Writes one row of audit and answers the outcome that it got, so that it can wrap the call of a verb.';

create function prune_audit(days int) returns bigint
language sql security definer set search_path = pg_catalog, public, pg_temp as $$
    with old as (
        select a.audit_id from audit a where a.at < now() - make_interval(days => greatest(prune_audit.days, 30)) order by a.at limit 100000
    ),
    gone as (delete from audit a using old where a.audit_id = old.audit_id returning 1)
    select count(*) from gone
$$;
comment on function prune_audit is 'Deletes rows of the audit that are older than so many days, 30 at least: the role of the API can delete no younger ones. Returns how many.';
