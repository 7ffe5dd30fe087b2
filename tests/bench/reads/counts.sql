-- What `settle` counts when jobs end, for the jobs of `seed.sql`, which no statement settled.
insert into ended_counts (owner, model_id, at, state, code, jobs, in_time, infer_micros, attempt_micros, image_bytes, example)
select owner, model_id, latency_period(finished_at), state, case when state in ('failed', 'expired') then problem ->> 'code' end as code, count(*),
       count(*) filter (where state = 'succeeded'), sum(infer_micros(timings, forward_batch_size)), sum(micros(finished_at - claimed_at)),
       100000 * count(*), max(job_id::text) filter (where state in ('failed', 'expired'))::uuid
from finished_jobs group by 1, 2, 3, 4, 5;
