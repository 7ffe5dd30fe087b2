-- What was planned for later, or backed off, is due.
with due as materialized (
    select job_id from live_jobs where state = 'scheduled' and run_at <= now()
    order by run_at limit 1000 for no key update skip locked
)
update live_jobs j set state = 'queued', version = j.version + 1 from due where j.job_id = due.job_id returning j.job_id
