-- What the jobs of `seed.sql` refer to: partitions of the past days, models, images, an open batch, live jobs and a worker.
do $$ declare day date; begin
    for day in select generate_series(current_date - $DAYS, current_date - 1, interval '1 day') loop
        execute format('create table if not exists %I partition of finished_jobs for values from (%L) to (%L)', to_char(day, '"finished_jobs_"YYYYMMDD'),
            uuid_from_time(day::timestamp at time zone 'UTC'), uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
        execute format('create table if not exists %I partition of attempts for values from (%L) to (%L)', to_char(day, '"attempts_"YYYYMMDD'),
            uuid_from_time(day::timestamp at time zone 'UTC'), uuid_from_time((day + 1)::timestamp at time zone 'UTC'));
    end loop;
end $$;
insert into models (model_id, name, is_default) overriding system value values (1, 'lite-1', true), (2, 'lite-2', false);
insert into model_versions (model_version_id, model_id, version, task, digest, manifest, files) overriding system value
select n, n, 1, 'classify', sha256(n::text::bytea), '{}', '{}' from generate_series(1, 2) n;
insert into images (owner, sha256, content_type, bytes, width, height, jobs)
select case when n % 5 = 0 then 'owner-0' else 'owner-' || n % 50 end, sha256(n::text::bytea), 'image/jpeg', 100000, 640, 480, $JOBS / 40000
from generate_series(0, 39999) n;
insert into batches (batch_id, owner, created_at, lines, upload_lines, sealed_at)
values ('00000000-0000-7000-8000-0000000000ba', 'owner-1', now() - interval '1 day' * $DAYS, 50000, 50000, now());
insert into workers (name, device, build, models, lease_until) values ('worker-0', 'cpu', 'bench', '{}', now() + interval '1 day');
insert into live_jobs (job_id, state, owner, model_id, model_version_id, model_ref, image_sha256, params, seq, retain_for,
    attempt_timeout_seconds, attempts_max, interruptions_max, batch_id, batch_line)
select new_job_id(), 'queued', 'owner-1', 1, 1, 'lite-1@default', sha256((n % 40000)::text::bytea), '{"top_k": 5}', n, interval '1 day', 120, 3, 5,
    '00000000-0000-7000-8000-0000000000ba', 25000 + n
from generate_series(1, 25000) n;
