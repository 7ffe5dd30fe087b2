-- Many jobs, one statement: their keys, their images, their places in the fair order, their rows. Lanes, images and terms come once
-- each. A job names its own by number, so that nothing is joined row by row. Terms are what the jobs of a batch have in common.
with first as (
    -- Whoever comes second waits here for the first one's commit, and then queues nothing.
    insert into idempotency_keys (owner, key, fingerprint, job_id)
    select owner, key, fingerprint, job_id from unnest($33::text[], $34::text[], $35::bytea[], $36::uuid[]) as k(owner, key, fingerprint, job_id)
    order by owner, key
    on conflict (owner, key) do nothing
    returning job_id
),
replayed as materialized (
    select job_id from unnest($36::uuid[]) as k(job_id) except select job_id from first
),
counted as (
    select image_no, count(*) as jobs, (array_agg(job_id))[1:8] as recent_jobs from unnest($1::uuid[], $4::int[]) as i(job_id, image_no)
    where job_id not in (select job_id from replayed) group by image_no
),
image as (
    -- An upload that was purged since the submit looked, or whose object a delete removed, has no object any more: the null is
    -- refused, and with it the submit.
    insert into images as i (owner, sha256, upload, content_type, bytes, width, height, jobs, recent_jobs)
    select m.owner, m.sha256, m.upload, m.content_type, m.bytes, m.width, m.height, c.jobs, c.recent_jobs
    from unnest($26::text[], $27::bytea[], $28::uuid[], $29::text[], $30::bigint[], $31::int[], $32::int[]) with ordinality
         as m(owner, sha256, upload, content_type, bytes, width, height, image_no)
    join counted c on c.image_no = m.image_no
    order by m.owner, m.sha256
    on conflict (owner, sha256) do update
    set jobs = i.jobs + excluded.jobs, last_used_at = now(), unused_since = null, purged_at = null,
        recent_jobs = (excluded.recent_jobs || i.recent_jobs)[1:8],
        upload = case when i.purged_at is null then i.upload
                      when excluded.upload <> all(i.voided) then nullif(excluded.upload, i.upload) end
    returning owner, sha256, upload
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
    from unnest($22::bigint[], $23::smallint[], $24::text[], $25::int[]) as w(model_id, priority, owner, jobs)
    order by w.model_id, w.priority, w.owner
    on conflict (model_id, priority, owner)
    do update set next_seq = greatest(l.next_seq, excluded.next_seq - excluded.taken) + excluded.taken, taken = excluded.taken
    returning l.model_id, l.priority, l.owner, l.next_seq - l.taken as before
),
queued as (
    insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, params, metadata, priority, seq,
                           run_at, deadline_at, retain_for, attempt_timeout_seconds, attempts_max, interruptions_max, trace_parent, image_upload,
                           batch_id, batch_line, custom_id, webhook_url)
    select i.job_id, case when i.run_at > now() then 'scheduled'::job_state else 'queued'::job_state end, ($24::text[])[i.lane_no], ($22::bigint[])[i.lane_no],
           ($14::bigint[])[i.terms_no], ($15::text[])[i.terms_no], i.sha256, i.params, i.metadata, ($23::smallint[])[i.lane_no],
           (select array_agg(l.before order by w.lane_no)
            from unnest($22::bigint[], $23::smallint[], $24::text[]) with ordinality as w(model_id, priority, owner, lane_no)
            join lane l using (model_id, priority, owner))[i.lane_no] + i.nth,
           greatest(i.run_at, now()), i.deadline_at, make_interval(secs => ($16::float8[])[i.terms_no]), ($17::int[])[i.terms_no],
           ($18::smallint[])[i.terms_no], ($19::smallint[])[i.terms_no], i.trace_parent,
           (select array_agg(s.upload order by m.image_no)
            from unnest($26::text[], $27::bytea[]) with ordinality as m(owner, sha256, image_no) left join image s using (owner, sha256))[i.image_no],
           ($20::uuid[])[i.terms_no], i.batch_line, i.custom_id, ($21::text[])[i.terms_no]
    from unnest($1::uuid[], $2::int[], $3::bigint[], $4::int[], $5::bytea[], $6::jsonb[], $7::jsonb[], $8::timestamptz[], $9::timestamptz[],
                $10::text[], $11::int[], $12::text[], $13::int[])
         as i(job_id, terms_no, nth, image_no, sha256, params, metadata, run_at, deadline_at, trace_parent, batch_line, custom_id, lane_no)
    where i.job_id not in (select job_id from replayed)
)
-- The caller knows everything else: returning a row for each job would cost as much as an index.
select now() as "created_at!", array(select job_id from replayed) as "replayed!"
