create table idempotency_keys (
    owner       text not null,
    key         text not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    job_id      uuid not null,
    created_at  timestamptz not null default now(),
    primary key (owner, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
comment on table  idempotency_keys is 'The job that a client''s key stands for; written by the statement that queues the job, so that both are there or none.';
comment on column idempotency_keys.fingerprint is 'SHA-256 of what was asked: the same key for another request is a mistake of the client.';
