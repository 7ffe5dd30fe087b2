-- Workers: one row, and so one lease, per worker process.

create table workers (
    worker_id     bigint generated always as identity primary key,
    name          text not null,
    device        text not null,
    build         text not null,
    models        text[] not null default '{}',
    loaded        jsonb not null default '[]',
    registered_at timestamptz not null default now(),
    lease_until   timestamptz not null,
    draining      boolean not null default false,
    ended_at      timestamptz,
    store_fault   text
) with (fillfactor = 50);
create index workers_alive on workers (lease_until) where ended_at is null;
comment on table  workers is 'One row per worker process. An id is never reused; a worker whose lease expired registers anew.';
comment on column workers.models is 'The models that the worker was told to run; empty: any.';
comment on column workers.loaded is 'The models that the worker has loaded: a list of {model, precision, batch_best, artifact, warning}, where batch_best is the measured best size of a forward batch, artifact is a name in the manifest, and warning is there only if the worker found something wrong with the model. The worker writes it when it changes.';
comment on column workers.store_fault is 'What is wrong with the worker''s bucket: set while the bucket lacks many objects in a row. The worker writes it when it changes.';
comment on column workers.lease_until is 'By the clock of the database. Past this time housekeeping takes the worker''s jobs back.';

create function drain_worker(worker_id bigint) returns text
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
    update workers w set draining = true where w.worker_id = drain_worker.worker_id and w.ended_at is null and w.lease_until > now();
    if found then
        perform wake('darkroom_worker', drain_worker.worker_id::text);
        return 'draining';
    end if;
    return case when exists (select from workers w where w.worker_id = drain_worker.worker_id) then 'gone' else 'not found' end;
end $$;
comment on function drain_worker is 'Answers draining, gone or not found. The worker claims no more jobs, finishes the jobs that it holds, and exits.';
