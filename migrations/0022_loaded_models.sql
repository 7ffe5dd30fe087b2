-- `models` says what a worker was told to run; this, what it has loaded, in which precision, and the batch that it measured to be
-- best there. The worker writes it when it changes.
alter table workers add column loaded jsonb not null default '[]';
comment on column workers.loaded is 'A list of {model, precision, batch_best}.';

create or replace view ops.workers as
select worker_id, name, device, build, models, registered_at, lease_until, draining,
       case when ended_at is not null then 'ended' when lease_until < now() then 'lost' when draining then 'draining' else 'alive' end as status,
       (select count(*) from live_jobs j where j.worker_id = w.worker_id and j.state = 'running') as running,
       loaded
from workers w;
comment on column ops.workers.loaded is 'What it has loaded: a list of {model, precision, batch_best}; batch_best is how many images it takes at once.';
