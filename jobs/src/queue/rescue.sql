-- Settles the jobs of workers whose lease has run out, by the clock of the database. Two processes may run it at once: each passes over
-- the rows that the other has locked.
with lost as materialized (
    select j.job_id, j.lease_no
    from live_jobs j left join workers w using (worker_id)
    where j.state = 'running' and (w.worker_id is null or w.lease_until < now() or w.ended_at is not null)
    order by j.job_id limit 1000 for no key update of j skip locked
),
leases as (
    select array_agg(job_id) as job_ids, array_agg(lease_no) as lease_nos, count(*)::int as jobs from lost
)
select s.job_id as "job_id!"
from leases l cross join lateral settle(l.job_ids, l.lease_nos, array_fill('lost'::text, array[l.jobs]),
                                        array_fill($2::jsonb, array[l.jobs]), array_fill($1::jsonb, array[l.jobs])) as s(job_id)
where l.jobs > 0
