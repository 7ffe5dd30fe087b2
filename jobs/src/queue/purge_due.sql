-- The data of jobs that were kept long enough goes, oldest first; rows that another process is purging are passed over.
with due as materialized (
    select job_id from finished_jobs where purged_at is null and retain_until < now()
    order by retain_until limit 500 for no key update skip locked
)
select purge_finished(array(select job_id from due)) as "purged!"
