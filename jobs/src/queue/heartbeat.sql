-- Renews only a lease that still runs: an expired worker cannot come back, since its jobs may be others' by now.
with renewed as (
    update workers set lease_until = now() + make_interval(secs => $2)
    where worker_id = $1 and lease_until > now() and ended_at is null
    returning draining
)
select draining,
       array(select job_id from live_jobs where worker_id = $1 and state = 'running' and cancel_requested) as "canceled!",
       array(select job_id from live_jobs where worker_id = $1 and state = 'running' order by job_id) as "held!",
       array(select lease_no from live_jobs where worker_id = $1 and state = 'running' order by job_id) as "lease_nos!"
from renewed
