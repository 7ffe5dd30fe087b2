-- Fills a database for `bench reads`: $JOBS finished jobs of 50 owners over the last $DAYS days, and one open batch.
-- One owner has a fifth of all jobs. The text is run once for each part: $PART of $PARTS.

-- Ids of one moment follow the numbers, so that neighbors in time are neighbors in the index.
insert into finished_jobs (job_id, state, version, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata,
    priority, created_at, run_at, retain_for, retain_until, lease_no, claimed_at, finished_at, attempt_timeout_seconds,
    attempts_started, attempts_charged, attempts_max, interruptions, interruptions_max, worker, device, result, problem, timings,
    forward_batch_size, forward_batch_position, input_warnings, batch_id, batch_line)
select (left(uuid_from_time(at)::text, 14) || '7' || substr(h, 1, 3) || '-8' || substr(h, 4, 3) || '-' || substr(h, 7, 12))::uuid,
    state, 3, case when n % 5 = 0 then 'owner-0' else 'owner-' || n % 50 end, model_id, model_id, 'lite-' || model_id || '@default',
    sha256((n % 40000)::text::bytea), '{"top_k": 5}', jsonb_build_object('order', n, 'shelf', 's' || n % 7), 0, at, at, interval '60 days', at + interval '60 days', 1,
    at + interval '1 second', at + interval '2 seconds', 120, 1, 1, 3, case when n % 10000 = 17 then 2 else 0 end, 5, 'worker-' || n % 4, 'cpu',
    case when state = 'succeeded' then '{"predictions": [{"label": "tabby", "score": 0.61}, {"label": "tiger cat", "score": 0.22}]}'::jsonb end,
    case when state in ('failed', 'expired') then jsonb_build_object('code', 'code-' || n % 9, 'detail', 'made up') end,
    jsonb_build_object('fetch', 3 + n % 11, 'decode', 7 + n % 5, 'preprocess', 2, 'batch_wait', 1 + n % 3, 'infer', 19 + n % 13, 'postprocess', 1, 'complete', 2),
    8, n % 8, case when n % 300 = 7 then '{stray_bytes}'::text[] end,
    case when $PART = $PARTS and n > $LAST - 25000 then '00000000-0000-7000-8000-0000000000ba'::uuid end,
    case when $PART = $PARTS and n > $LAST - 25000 then n - ($LAST - 25000) end
from generate_series($FIRST, $LAST) n,
    lateral (select md5(n::text) as h, now() - interval '5 seconds' - interval '1 day' * $DAYS * (1 - n::float8 / $JOBS) as at,
                    1 + (n % 3 = 0)::int as model_id,
                    (case when n % 100 < 95 then 'succeeded' when n % 100 < 98 then 'failed' when n % 100 = 98 then 'expired' else 'canceled' end)::job_state as state) made;
