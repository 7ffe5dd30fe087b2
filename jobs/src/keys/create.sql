with made as (
    insert into api_keys (key_id, secret_sha256, name, owner, scopes, expires_at, requests_per_second, burst, queued_jobs_max, stored_bytes_max,
                          priority_max)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    returning key_id, name, owner, scopes, created_at
)
-- A join, so that no key is made without its line in the audit.
select made.created_at as "created_at!"
from made, audited('create_key', made.key_id, jsonb_build_object('name', made.name, 'owner', made.owner, 'scopes', made.scopes, 'priority_max', $11::smallint),
                   'created', $12)
