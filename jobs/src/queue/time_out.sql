-- Settles the attempts that ran longer than their job allows, even while their worker still holds the lease.
with late as materialized (
    select j.job_id, j.lease_no, case when j.deadline_at <= now() then $2::jsonb else $1::jsonb end as problem
    from live_jobs j where j.state = 'running' and j.attempt_deadline_at < now()
    order by j.job_id limit 1000 for no key update skip locked
),
leases as (
    select array_agg(job_id) as job_ids, array_agg(lease_no) as lease_nos, array_agg(problem) as problems, count(*)::int as jobs from late
)
select s.job_id as "job_id!"
from leases l cross join lateral settle(l.job_ids, l.lease_nos, array_fill('timed_out'::text, array[l.jobs]), l.problems) as s(job_id)
where l.jobs > 0
