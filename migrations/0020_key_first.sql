-- Of indexes that cost the same, which all do over an empty table, the planner takes the newest: a plan made then must look
-- jobs up by their key, not walk another index that happens to hold it too. `tests/integration/queue/plans.rs` looks.
set local lock_timeout = '5s';
create unique index live_jobs_key on live_jobs (job_id);
alter table live_jobs drop constraint live_jobs_pkey, add constraint live_jobs_pkey primary key using index live_jobs_key;
