-- The key and the batch, both or none.
with key as (
    insert into idempotency_keys (owner, key, fingerprint, job_id, batch_id)
    select $2, $4, decode(repeat('00', 32), 'hex'), $1, $1 where $4::text is not null
    on conflict (owner, key) do nothing
    returning job_id
)
insert into batches (batch_id, owner, metadata)
select $1, $2, $3 where $4::text is null or exists (select from key)
returning upload_no
