-- Ends the jobs whose deadline passed before a worker claimed them.
with late as materialized (
    select j.job_id, j.lease_no from live_jobs j
    where j.state in ('queued', 'scheduled') and j.deadline_at < now()
    order by j.job_id limit 1000 for no key update skip locked
),
leases as (
    select array_agg(job_id) as job_ids, array_agg(lease_no) as lease_nos, count(*)::int as jobs from late
)
select s.job_id as "job_id!"
from leases l cross join lateral settle(l.job_ids, l.lease_nos, array_fill('expired'::text, array[l.jobs]), array_fill($1::jsonb, array[l.jobs])) as s(job_id)
where l.jobs > 0
