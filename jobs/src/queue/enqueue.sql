-- Many jobs, one statement: their images, their places in the fair order, their rows.
with input as (
    select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::jsonb[], $7::jsonb[], $8::smallint[],
                         $9::timestamptz[], $10::timestamptz[], $11::float8[], $12::int[], $13::smallint[], $14::smallint[], $15::text[],
                         $16::bytea[], $17::text[], $18::bigint[], $19::int[], $20::int[], $21::text[], $22::bytea[], $23::uuid[],
                         $24::uuid[], $25::int[], $26::text[], $27::text[])
    with ordinality as i(job_id, owner, model_id, model_version_id, model_ref, params, metadata, priority,
                         run_at, deadline_at, retain_seconds, attempt_timeout_seconds, attempts_max, interruptions_max, trace_parent,
                         sha256, content_type, bytes, width, height, idempotency_key, fingerprint, upload,
                         group_id, group_position, custom_id, webhook_url, position)
),
first as (
    -- Whoever comes second waits here for the first one's commit, and then queues nothing.
    insert into idempotency_keys (owner, key, fingerprint, job_id)
    select owner, idempotency_key, fingerprint, job_id from input where idempotency_key is not null order by owner, idempotency_key
    on conflict (owner, key) do nothing
    returning job_id
),
new as (
    select * from input where idempotency_key is null or job_id in (select job_id from first)
),
image as (
    -- An upload that was purged since the submit looked has no object any more: the null is refused, and with it the submit.
    insert into images as i (owner, sha256, upload, content_type, bytes, width, height, jobs, recent_jobs)
    select owner, sha256, (array_agg(upload order by position))[1], min(content_type), min(bytes), min(width), min(height), count(*),
           (array_agg(job_id order by position desc))[1:8]
    from new group by owner, sha256 order by owner, sha256
    on conflict (owner, sha256) do update
    set jobs = i.jobs + excluded.jobs, last_used_at = now(), unused_since = null, purged_at = null,
        recent_jobs = (excluded.recent_jobs || i.recent_jobs)[1:8],
        upload = case when i.purged_at is null then i.upload else nullif(excluded.upload, i.upload) end
    returning owner, sha256, upload
),
wanted as (
    select model_id, priority, owner, count(*)::int as jobs from new group by model_id, priority, owner
),
lane as (
    -- A lane that was idle starts where the queue stands, not at zero: it gets its share from now on, and no credit for the past.
    insert into lanes as l (model_id, priority, owner, next_seq, taken)
    select w.model_id, w.priority, w.owner, w.jobs + coalesce(
               (select j.seq from live_jobs j where j.state = 'queued' and j.model_id = w.model_id and j.priority = w.priority
                order by j.priority desc, j.seq limit 1),
               (select max(o.next_seq) from lanes o where o.model_id = w.model_id and o.priority = w.priority),
               0),
           w.jobs
    from wanted w order by w.model_id, w.priority, w.owner
    on conflict (model_id, priority, owner)
    do update set next_seq = greatest(l.next_seq, excluded.next_seq - excluded.taken) + excluded.taken, taken = excluded.taken
    returning l.model_id, l.priority, l.owner, l.next_seq - l.taken as before
)
insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, seq,
                       run_at, deadline_at, retain_for, attempt_timeout_seconds, attempts_max, interruptions_max, trace_parent, image_upload,
                       group_id, group_position, custom_id, webhook_url)
select i.job_id, case when i.run_at > now() then 'scheduled' else 'queued' end::job_state, i.owner, i.model_id, i.model_version_id,
       i.model_ref, i.sha256, i.params, i.metadata, i.priority,
       lane.before + row_number() over (partition by i.model_id, i.priority, i.owner order by i.position),
       greatest(i.run_at, now()), i.deadline_at, make_interval(secs => i.retain_seconds), i.attempt_timeout_seconds,
       i.attempts_max, i.interruptions_max, i.trace_parent, image.upload,
       i.group_id, i.group_position, i.custom_id, i.webhook_url
from new i join lane using (model_id, priority, owner) join image using (owner, sha256)
returning job_id, state as "state: JobState", created_at, run_at
