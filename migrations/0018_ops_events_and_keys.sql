-- Contract: events, deliveries, API keys and the audit.

create view ops.events as
select format('evt_%s-%s-%s-%s', e.xact, e.event_no, coalesce(j.place, 0), floor(extract(epoch from e.at))) as id, e.type, e.owner, e.at, j.job_id,
       case when e.batch_id is not null then 'batch_' || replace(e.batch_id::text, '-', '') end as batch_id
from events e left join lateral unnest(e.job_ids) with ordinality as j(job_id, place) on true;
comment on view ops.events is 'What happened to jobs and batches; GET /v1/events shows these rows to their owners.';
comment on column ops.events.id is 'Id as clients see it. A client sends it back to read on from this event.';
comment on column ops.events.type is 'job.started, job.succeeded, job.failed, job.canceled, job.expired or batch.completed.';
comment on column ops.events.owner is 'Owner of the job or batch.';
comment on column ops.events.at is 'When the transaction of the change began.';
comment on column ops.events.job_id is 'The job; empty for an event of a batch.';
comment on column ops.events.batch_id is 'The batch, as clients see it; empty for an event of a job.';

create view ops.deliveries as
select d.delivery_id, 'delivery_' || replace(d.delivery_id::text, '-', '') as id, d.owner, d.type, d.at, d.job_id,
       case when d.batch_id is not null then 'batch_' || replace(d.batch_id::text, '-', '') end as batch_id,
       d.endpoint_id, d.url, d.status, jsonb_array_length(d.log) as attempts, (d.log -> -1 ->> 'at')::timestamptz as last_attempt_at,
       (d.log -> -1 ->> 'status')::int as last_status, d.log -> -1 ->> 'error' as last_error, d.next_attempt_at, d.ended_at
from webhook_deliveries d;
comment on view ops.deliveries is 'Webhook deliveries and their outcomes.';
comment on column ops.deliveries.delivery_id is 'What ops.redeliver takes.';
comment on column ops.deliveries.id is 'As receivers and owners see it: the webhook-id.';
comment on column ops.deliveries.owner is 'Owner of the job or batch.';
comment on column ops.deliveries.type is 'Type of the event.';
comment on column ops.deliveries.at is 'When it happened.';
comment on column ops.deliveries.job_id is 'The job; empty for an event of a batch.';
comment on column ops.deliveries.batch_id is 'The batch, as clients see it; empty for an event of a job.';
comment on column ops.deliveries.endpoint_id is 'The endpoint; empty if the job named the URL itself.';
comment on column ops.deliveries.url is 'Where the delivery is sent.';
comment on column ops.deliveries.status is 'pending, delivered or failed.';
comment on column ops.deliveries.attempts is 'Number of attempts; only the latest fifty are kept and counted.';
comment on column ops.deliveries.last_attempt_at is 'Time of the last attempt.';
comment on column ops.deliveries.last_status is 'HTTP status of the last answer; empty if there was none.';
comment on column ops.deliveries.last_error is 'Error of the last attempt; empty if there was none.';
comment on column ops.deliveries.next_attempt_at is 'When the delivery is sent next; empty once it has ended.';
comment on column ops.deliveries.ended_at is 'When the delivery succeeded or was given up.';

create view ops.api_keys as
select key_id, name, owner, scopes, created_at, expires_at, revoked_at,
       case when revoked_at is not null then 'revoked' when expires_at <= now() then 'expired' else 'valid' end as status,
       requests_per_second, burst, queued_jobs_max, stored_bytes_max
from api_keys;
comment on view ops.api_keys is 'The API keys, without their secrets.';
comment on column ops.api_keys.key_id is 'The key begins with dk_ and this id.';
comment on column ops.api_keys.name is 'What the key is for, in the words of its maker.';
comment on column ops.api_keys.owner is 'Whose jobs the key sees; several keys may share one owner.';
comment on column ops.api_keys.scopes is 'What it may do: submit, read, operate, admin.';
comment on column ops.api_keys.created_at is 'When it was made.';
comment on column ops.api_keys.expires_at is 'Until when the key is valid; empty: until it is revoked.';
comment on column ops.api_keys.revoked_at is 'When it was revoked.';
comment on column ops.api_keys.status is 'valid, expired or revoked.';
comment on column ops.api_keys.requests_per_second is 'Requests a second in the long run, for each API process; empty: the default of the service, 0: no limit.';
comment on column ops.api_keys.burst is 'Requests that may come at once; empty: the default of the service.';
comment on column ops.api_keys.queued_jobs_max is 'Submits are refused while the owner has this many jobs that have not ended; empty: the default of the service, 0: no limit.';
comment on column ops.api_keys.stored_bytes_max is 'Uploads are refused while the owner stores this many bytes of images; empty: the default of the service, 0: no limit.';

create view ops.audit as
select at, actor, role, verb, subject, arguments, outcome from audit;
comment on view ops.audit is 'Acts of operators, by SQL and by REST. Of SQL without the refused ones.';
comment on column ops.audit.at is 'When it happened.';
comment on column ops.audit.actor is 'The login, or api key and its id.';
comment on column ops.audit.role is 'The role that the login had taken on with SET ROLE, else the login.';
comment on column ops.audit.verb is 'Which act: cancel, retry, retry_failed, set_priority, pause, resume, drain, purge, enqueue, create_key, revoke_key, push_version, set_alias, delete_alias, retire_version, unretire_version, redeliver.';
comment on column ops.audit.subject is 'Id of the job, delivery or API key as clients see it, name of the model, or number of the worker.';
comment on column ops.audit.arguments is 'The other arguments.';
comment on column ops.audit.outcome is 'Answer of the function.';
