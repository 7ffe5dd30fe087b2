-- Webhooks: the receivers, and one delivery for each event and receiver. The functions of 0007 write a delivery in the
-- transaction of its event; the API's processes send it afterwards.

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
comment on table  webhook_endpoints is 'Receivers of the events of all jobs and batches of an owner.';
comment on column webhook_endpoints.secret is 'Signs the requests to this endpoint. The API shows it to the owner once.';
comment on column webhook_endpoints.disabled_at is 'When the receiver answered 410; it gets no more deliveries.';

create table webhook_secrets (
    owner           text primary key,
    secret          text not null,
    rotated_at      timestamptz not null default now()
);
comment on table  webhook_secrets is 'Sign the requests to the URLs that jobs name themselves; made on first use.';

create table webhook_previous_secrets (
    owner       text not null,
    secret      text not null,
    valid_until timestamptz not null,
    primary key (owner, secret)
);
comment on table  webhook_previous_secrets is 'Secrets that a rotation replaced and that still sign, so that receivers can change over.';
comment on column webhook_previous_secrets.valid_until is 'Until this time the secret signs too. A later rotation does not change it.';

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
create index webhook_deliveries_by_destination on webhook_deliveries (owner, host, next_attempt_at) where status = 'pending';
create index webhook_deliveries_by_owner on webhook_deliveries (owner, delivery_id);
create index webhook_deliveries_of_job on webhook_deliveries (job_id) where job_id is not null;
create index webhook_deliveries_of_endpoint on webhook_deliveries (endpoint_id) where endpoint_id is not null and status = 'pending';
create index webhook_deliveries_ended on webhook_deliveries (ended_at) where ended_at is not null;
comment on table  webhook_deliveries is 'One row for each event and receiver: its id is the webhook-id, and its log says what came of it.';
comment on column webhook_deliveries.endpoint_id is 'Empty if the job named this URL itself.';
comment on column webhook_deliveries.next_attempt_at is 'When to send it; while a process sends it, when the lease of that process ends.';
comment on column webhook_deliveries.lease_no is 'Grows with every claim: only the holder of the latest claim may write the outcome.';
comment on column webhook_deliveries.tries is 'Attempts since the delivery was made, or since it was last redelivered by hand.';
comment on column webhook_deliveries.log is 'The attempts, the latest last: at, status, error, took_ms.';

-- Readers of the views of `ops` who are neither the API nor operators (who may send a delivery again) do not see what a webhook
-- URL keeps secret. The names are looked up when a row is shown, since both come later than this file. Postgres inlines these
-- functions into the query of the view. So each tells by itself who asks, and names nothing of schema `public`.
create function shown_url(url text) returns text
language sql stable as $$
    select case when url is null or pg_has_role(to_regrole('darkroom_api'), 'usage') or has_function_privilege(to_regprocedure('ops.redeliver(uuid)'), 'execute')
                then url
                else coalesce(substring(url from '^[^:/?#]+://') || coalesce(substring(url from '^[^:/?#]+://(?:[^/?#]*@)?([^/?#@]*)'), ''), '')
                     || case when url ~ '^[^:/?#]+://[^/?#@]*/?$' then '' else '/…' end end
$$;
comment on function shown_url is 'The URL; for darkroom_reader scheme, host and port, and /… for the rest.';

create function shown_error(error text) returns text
language sql stable as $$
    select case when error is null or pg_has_role(to_regrole('darkroom_api'), 'usage') or has_function_privilege(to_regprocedure('ops.redeliver(uuid)'), 'execute')
                then error
                -- A receiver that redirects often repeats the token.
                else regexp_replace(error, '(a redirect to ).*(, which)', '\1…\2') end
$$;
comment on function shown_error is 'The error of a delivery; for darkroom_reader without the target of a redirect.';

create function redeliver_webhook(delivery uuid, owner text) returns text
language sql set search_path = pg_catalog, public, pg_temp as $$
    with again as (
        -- A process that sends this delivery now loses its claim, and the next attempt waits until its lease ends.
        update webhook_deliveries d
        set status = 'pending', tries = 0, ended_at = null, lease_no = d.lease_no + 1, next_attempt_at = greatest(now(), d.leased_until)
        where d.delivery_id = redeliver_webhook.delivery and (redeliver_webhook.owner is null or d.owner = redeliver_webhook.owner)
        returning 1
    )
    select case when exists (select from again) then 'pending' else 'not found' end
$$;
comment on function redeliver_webhook is 'Answers pending or not found. Sends a delivery again, under its id, with a new budget of attempts.';

-- Two statements: after the lock, the second one sees what another call has committed.
create function create_webhook_endpoint(owner text, url text, events text[], secret text, endpoints_max bigint)
returns table (endpoint_id uuid, created_at timestamptz)
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
begin
    perform pg_advisory_xact_lock(hashtextextended('webhook_endpoints ' || create_webhook_endpoint.owner, 0));
    return query
        insert into webhook_endpoints (owner, url, events, secret)
        select create_webhook_endpoint.owner, create_webhook_endpoint.url, create_webhook_endpoint.events, create_webhook_endpoint.secret
        where (select count(*) from webhook_endpoints w where w.owner = create_webhook_endpoint.owner) < create_webhook_endpoint.endpoints_max
        returning endpoint_id, created_at;
end $$;
comment on function create_webhook_endpoint is 'Makes an endpoint; no row if the owner has endpoints_max endpoints already.';

create function rotate_webhook_secret(owner text, fresh text, overlap interval, previous_max int) returns timestamptz
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
declare replaced text; still_signing int; first_ends timestamptz;
begin
    -- The row lock puts concurrent rotations in an order. The update changes nothing: it makes `returning` return an existing row.
    insert into webhook_secrets as s (owner, secret) values (rotate_webhook_secret.owner, fresh)
    on conflict on constraint webhook_secrets_pkey do update set secret = s.secret
    returning s.secret into replaced;
    if replaced = fresh then
        return null;
    end if;
    delete from webhook_previous_secrets p where p.owner = rotate_webhook_secret.owner and p.valid_until <= now();
    select count(*), min(p.valid_until) into still_signing, first_ends from webhook_previous_secrets p where p.owner = rotate_webhook_secret.owner;
    if still_signing >= previous_max then
        return first_ends;
    end if;
    insert into webhook_previous_secrets values (rotate_webhook_secret.owner, replaced, now() + overlap);
    update webhook_secrets s set secret = fresh, rotated_at = now() where s.owner = rotate_webhook_secret.owner;
    return null;
end $$;
comment on function rotate_webhook_secret is 'Replaces the secret of an owner, which signs on for a while. Changes nothing if previous_max replaced secrets still sign, and answers when the first of them ends.';
