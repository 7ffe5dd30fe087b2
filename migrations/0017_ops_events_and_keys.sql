-- Contract: events, deliveries, API keys and the audit.

create view ops.events as
select format('evt_%s-%s-%s-%s', e.xact, e.event_no, coalesce(j.place, 0), floor(extract(epoch from e.at))) as id, e.type, e.owner, e.at, j.job_id,
       case when e.batch_id is not null then 'batch_' || replace(e.batch_id::text, '-', '') end as batch_id
from events e left join lateral unnest(e.job_ids) with ordinality as j(job_id, place) on true;
comment on view ops.events is 'What happened to jobs and batches; what GET /v1/events tells their owners.';
comment on column ops.events.id is 'As clients see it, and send it back to go on from there.';
comment on column ops.events.type is 'job.started, job.succeeded, job.failed, job.canceled, job.expired or batch.completed.';
comment on column ops.events.owner is 'Whose job or batch.';
comment on column ops.events.at is 'When the transaction began that made it so.';
comment on column ops.events.job_id is 'The job; empty if it is about a batch.';
comment on column ops.events.batch_id is 'The batch, as clients see it; empty if it is about a job.';

create view ops.deliveries as
select d.delivery_id, 'delivery_' || replace(d.delivery_id::text, '-', '') as id, d.owner, d.type, d.at, d.job_id,
       case when d.batch_id is not null then 'batch_' || replace(d.batch_id::text, '-', '') end as batch_id,
       d.endpoint_id, d.url, d.status, jsonb_array_length(d.log) as attempts, (d.log -> -1 ->> 'at')::timestamptz as last_attempt_at,
       (d.log -> -1 ->> 'status')::int as last_status, d.log -> -1 ->> 'error' as last_error, d.next_attempt_at, d.ended_at
from webhook_deliveries d;
comment on view ops.deliveries is 'What is told to receivers of webhooks, and what came of it.';
comment on column ops.deliveries.delivery_id is 'What ops.redeliver takes.';
comment on column ops.deliveries.id is 'As receivers and owners see it: the webhook-id.';
comment on column ops.deliveries.owner is 'Whose job or batch it is about.';
comment on column ops.deliveries.type is 'The event.';
comment on column ops.deliveries.at is 'When it happened.';
comment on column ops.deliveries.job_id is 'The job; empty if it is about a batch.';
comment on column ops.deliveries.batch_id is 'The batch, as clients see it; empty if it is about a job.';
comment on column ops.deliveries.endpoint_id is 'The standing receiver; empty if the job named the URL itself.';
comment on column ops.deliveries.url is 'Where it goes.';
comment on column ops.deliveries.status is 'pending, delivered or failed.';
comment on column ops.deliveries.attempts is 'How often it was sent; the latest fifty are known.';
comment on column ops.deliveries.last_attempt_at is 'When last.';
comment on column ops.deliveries.last_status is 'HTTP status of the last answer; empty if there was none.';
comment on column ops.deliveries.last_error is 'What was wrong with it; empty if nothing was.';
comment on column ops.deliveries.next_attempt_at is 'When it is sent next; empty once it has ended.';
comment on column ops.deliveries.ended_at is 'When it was delivered or given up.';

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

create view ops.audit as
select at, actor, role, verb, subject, arguments, outcome from audit;
comment on view ops.audit is 'Acts of operators, by SQL and by REST; what was refused is not among them.';
comment on column ops.audit.at is 'When.';
comment on column ops.audit.actor is 'The login, or api key and its id.';
comment on column ops.audit.role is 'The role it had taken on, else the login again.';
comment on column ops.audit.verb is 'Which act: cancel, retry, retry_failed, set_priority, pause, resume, drain, purge, enqueue, create_key, revoke_key, set_alias, retire_version.';
comment on column ops.audit.subject is 'Id of the job or delivery as clients see it, name of the model, or number of the worker.';
comment on column ops.audit.arguments is 'What else was given.';
comment on column ops.audit.outcome is 'What the function answered.';
