-- Webhooks: who wants to be told, and what has to be told to whom. The rows come with the event, in the same transaction;
-- the API's processes send them afterwards.

create table webhook_endpoints (
    endpoint_id uuid primary key default new_job_id(),
    owner       text not null,
    url         text not null,
    events      text[] not null,
    secret      text not null,
    created_at  timestamptz not null default now(),
    disabled_at timestamptz,
    constraint subscribed_to_something check (cardinality(events) > 0)
);
create index webhook_endpoints_by_owner on webhook_endpoints (owner, endpoint_id);
comment on table  webhook_endpoints is 'Standing receivers of an owner''s news.';
comment on column webhook_endpoints.secret is 'Signs what is sent there: shown to the owner once, and to nobody else.';
comment on column webhook_endpoints.disabled_at is 'Since when the receiver says 410: it is told nothing any more.';

create table webhook_secrets (
    owner           text primary key,
    secret          text not null,
    rotated_at      timestamptz not null default now(),
    previous_secret text,
    previous_until  timestamptz
);
comment on table  webhook_secrets is 'Sign what is sent to the webhooks that jobs name themselves; made when first needed.';
comment on column webhook_secrets.previous_until is 'Until when the secret before signs along, so that receivers can change over.';

create table webhook_deliveries (
    delivery_id     uuid primary key default new_job_id(),
    owner           text not null,
    endpoint_id     uuid,
    url             text not null,
    host            text not null generated always as (coalesce(lower(substring(url from '^[^:]+://([^/?#]*)')), '')) stored,
    type            text not null,
    at              timestamptz not null default now(),
    job_id          uuid,
    batch_id        uuid,
    status          text not null default 'pending',
    next_attempt_at timestamptz default now(),
    leased_until    timestamptz,
    lease_no        int not null default 0,
    tries           smallint not null default 0,
    log             jsonb not null default '[]',
    ended_at        timestamptz,
    constraint status_is_known check (status in ('pending', 'delivered', 'failed')),
    constraint tried_again_exactly_while_pending check ((status = 'pending') = (next_attempt_at is not null)),
    constraint ended_exactly_when_not_pending check ((status = 'pending') = (ended_at is null)),
    constraint of_a_job_or_of_a_batch check ((job_id is null) <> (batch_id is null))
) with (fillfactor = 70);
create index webhook_deliveries_due on webhook_deliveries (next_attempt_at) where status = 'pending';
create index webhook_deliveries_by_owner on webhook_deliveries (owner, delivery_id);
create index webhook_deliveries_of_job on webhook_deliveries (job_id) where job_id is not null;
create index webhook_deliveries_of_endpoint on webhook_deliveries (endpoint_id) where endpoint_id is not null and status = 'pending';
create index webhook_deliveries_ended on webhook_deliveries (ended_at) where ended_at is not null;
comment on table  webhook_deliveries is 'One row for each event and receiver: the webhook-id, and what came of it.';
comment on column webhook_deliveries.endpoint_id is 'Empty: the job named this URL itself.';
comment on column webhook_deliveries.next_attempt_at is 'When to send it; while a process is at it, when its lease ends.';
comment on column webhook_deliveries.lease_no is 'Grows with every claim: only the latest one may write what came of it.';
comment on column webhook_deliveries.tries is 'Since it was made, or asked for again.';
comment on column webhook_deliveries.log is 'Its attempts, the latest last: at, status, error, took_ms.';

create or replace function publish_ends() returns trigger
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, job_ids) select e.owner, 'job.' || e.state, array_agg(e.job_id) from ended e group by e.owner, e.state;
    -- Where nobody wants to be told, that is all it costs.
    if exists (select from webhook_endpoints where disabled_at is null) or exists (select from ended where webhook_url is not null) then
        insert into webhook_deliveries (owner, endpoint_id, url, type, job_id)
        select e.owner, null, e.webhook_url, 'job.' || e.state, e.job_id from ended e where e.webhook_url is not null
        union all
        select e.owner, w.endpoint_id, w.url, 'job.' || e.state, e.job_id
        from ended e join webhook_endpoints w on w.owner = e.owner and w.disabled_at is null and 'job.' || e.state = any(w.events);
    end if;
    return null;
end $$;

create or replace function publish_event(owner text, type text, batch_id uuid, webhook_url text default null) returns void
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
    insert into events (owner, type, batch_id) values (publish_event.owner, publish_event.type, publish_event.batch_id);
    insert into webhook_deliveries (owner, endpoint_id, url, type, batch_id)
    select publish_event.owner, w.endpoint_id, w.url, publish_event.type, publish_event.batch_id
    from webhook_endpoints w
    where w.owner = publish_event.owner and w.disabled_at is null and publish_event.type = any(w.events)
    union all
    select publish_event.owner, null, publish_event.webhook_url, publish_event.type, publish_event.batch_id
    where publish_event.webhook_url is not null;
end $$;

create function redeliver_webhook(delivery uuid, owner text) returns text
language sql set search_path = pg_catalog, public, pg_temp as $$
    with again as (
        -- Whoever is at it now has no more say, and is waited for.
        update webhook_deliveries d
        set status = 'pending', tries = 0, ended_at = null, lease_no = d.lease_no + 1, next_attempt_at = greatest(now(), d.leased_until)
        where d.delivery_id = redeliver_webhook.delivery and (redeliver_webhook.owner is null or d.owner = redeliver_webhook.owner)
        returning 1
    )
    select case when exists (select from again) then 'pending' else 'not found' end
$$;
comment on function redeliver_webhook is 'pending or not found. Sends a delivery again, under its id, with a new budget of attempts.';

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

create function ops.redeliver(delivery uuid) returns text
language plpgsql security definer set search_path = pg_catalog, public, pg_temp set lock_timeout = '5s' as $$
declare
    outcome text := redeliver_webhook(delivery, null);
begin
    if outcome = 'not found' then
        raise exception 'there is no delivery %', coalesce(delivery::text, 'null') using errcode = 'no_data_found',
            hint = 'select delivery_id, url, status, last_error from ops.deliveries order by delivery_id desc limit 10;';
    end if;
    return audited('redeliver', 'delivery_' || replace(delivery::text, '-', ''), '{}', outcome);
end $$;
comment on function ops.redeliver is 'Sends a webhook again, under its id, with a new budget of attempts; within a second.';
comment on column ops.audit.verb is 'Which function: cancel, retry, retry_failed, set_priority, pause, resume, drain, purge, enqueue, redeliver.';
comment on column ops.audit.subject is 'Id of the job or delivery as clients see it, name of the model, or number of the worker.';

create or replace function grant_event_privileges() returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    revoke execute on function publish_ends(), publish_event(text, text, uuid, text), make_event_partitions(int), prune_events(interval), grant_event_privileges(),
        redeliver_webhook(uuid, text) from public;
    if to_regrole('darkroom_api') is not null then
        grant select on events to darkroom_api;
        grant select, insert, update, delete on webhook_endpoints, webhook_secrets, webhook_deliveries to darkroom_api;
        grant execute on function make_event_partitions(int), prune_events(interval), publish_event(text, text, uuid, text),
            redeliver_webhook(uuid, text), new_job_id() to darkroom_api;
    end if;
    if to_regrole('darkroom_worker') is not null then
        grant execute on function make_event_partitions(int), publish_event(text, text, uuid, text) to darkroom_worker;
    end if;
end $$;
select grant_privileges();
