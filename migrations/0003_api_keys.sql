create table api_keys (
    key_id        text primary key,
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    name          text not null,
    owner         text not null,
    scopes        text[] not null,
    created_at    timestamptz not null default now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    constraint owners_are_short_names check (owner ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    constraint scopes_are_known check (scopes <@ array['submit', 'read', 'operate', 'admin'] and cardinality(scopes) > 0)
);
comment on table  api_keys is 'A key reads dk_<key_id>_<secret>; only the SHA-256 of the secret is kept.';
comment on column api_keys.owner is 'Whose jobs the key sees; several keys may share one owner.';
