-- Why a job is where it is.

create function finished_per_second(model_id bigint) returns float8
language plpgsql stable set search_path = pg_catalog, public, pg_temp as $$
declare
    span int; jobs bigint;
begin
    -- A few seconds tell the rate of a busy model; a slow model needs minutes.
    foreach span in array array[10, 60, 600] loop
        select count(*) into jobs from finished_jobs f
        where f.model_id = finished_per_second.model_id and f.claimed_at is not null
          and f.finished_at > now() - make_interval(secs => span) and f.job_id >= uuid_from_time(now() - interval '2 days');
        exit when jobs >= 100;
    end loop;
    return jobs / span::float8;
end $$;
comment on function finished_per_second is 'Jobs of a model that ended in a second, over the last 10 s, 60 s or 10 min. Counts only jobs that were made in the last two days.';

create function explain_job(job uuid, owner text)
returns table (job_id uuid, status text, model text, priority smallint, jobs_ahead bigint, live_workers bigint,
               finished_per_second float8, starts_in_seconds float8, blocked_by text[])
language plpgsql stable set search_path = pg_catalog, public, pg_temp as $$
#variable_conflict use_column
declare
    j live_jobs; m models; w workers; ended finished_jobs; reasons text[] := '{}'; code text;
    counted_max constant int := 10000;
begin
    select * into j from live_jobs l where l.job_id = explain_job.job and (explain_job.owner is null or l.owner = explain_job.owner);
    if not found then
        return query select f.job_id, f.state::text, m.name, f.priority, 0::bigint, 0::bigint, 0::float8, null::float8, '{}'::text[]
            from finished_jobs f join models m using (model_id)
            where f.job_id = explain_job.job and (explain_job.owner is null or f.owner = explain_job.owner);
        return;
    end if;
    select * into m from models where models.model_id = j.model_id;
    job_id := j.job_id;
    status := j.state;
    model := m.name;
    priority := j.priority;
    select count(*) into live_workers from workers w
    where w.ended_at is null and w.lease_until > now() and not w.draining and (cardinality(w.models) = 0 or m.name = any(w.models));
    finished_per_second := finished_per_second(j.model_id);
    if j.state = 'running' then
        jobs_ahead := 0;
        select * into w from workers where workers.worker_id = j.worker_id;
        if w.ended_at is not null or w.lease_until < now() then
            reasons := reasons || format('its worker %s has been silent for too long: its lease ran out at %s, and housekeeping takes the job back', w.name, w.lease_until);
        end if;
        if j.cancel_requested then
            reasons := reasons || format('a cancel was asked for, and its worker %s has not let go yet', w.name);
        end if;
        if j.attempt_deadline_at < now() then
            reasons := reasons || format('its attempt should have ended by %s: housekeeping takes it away', j.attempt_deadline_at);
        end if;
    else
        -- Two ranges of one index, so that a job at the front does not read the jobs behind it.
        select count(*) into jobs_ahead from (
            (select from live_jobs l where l.state = 'queued' and l.model_id = j.model_id and l.priority > j.priority limit counted_max)
            union all
            (select from live_jobs l where l.state = 'queued' and l.model_id = j.model_id and l.priority = j.priority and l.seq < j.seq limit counted_max)
            limit counted_max) ahead;
        if j.state = 'scheduled' then
            code := j.problem ->> 'code';
            if j.run_at <= now() then
                reasons := reasons || format('it has been due since %s, and no housekeeping has queued it: is an API or a worker alive?', j.run_at);
            elsif code is not null then
                reasons := reasons || format('it backs off until %s, after attempt %s: %s', j.run_at, j.attempts_started, code);
            else
                reasons := reasons || format('it is planned for %s', j.run_at);
            end if;
        end if;
        if m.paused_at is not null then
            reasons := reasons || format('model %s has been paused since %s: %s', m.name, m.paused_at, coalesce(m.pause_reason, 'nobody said why'));
        end if;
        if live_workers = 0 then
            select * into w from workers where cardinality(workers.models) = 0 or m.name = any(workers.models) order by workers.lease_until desc limit 1;
            reasons := reasons || case
                when w.worker_id is null then format('no worker that runs model %s has ever been here', m.name)
                when w.ended_at is null and w.lease_until > now() then format('the only workers that run model %s are draining', m.name)
                else format('no live worker runs model %s; the last one, %s, was there until %s', m.name, w.name, least(w.ended_at, w.lease_until)) end;
        end if;
        if jobs_ahead > 0 then
            reasons := reasons || format('%s%s jobs of its model are ahead of it', case when jobs_ahead = counted_max then 'at least ' else '' end, jobs_ahead);
        end if;
        if m.paused_at is null and live_workers > 0 and (jobs_ahead = 0 or finished_per_second > 0) then
            starts_in_seconds := greatest(extract(epoch from j.run_at - now()), 0)
                + case when jobs_ahead = 0 then 0 else jobs_ahead / finished_per_second end;
        end if;
    end if;
    blocked_by := reasons;
    return next;
end $$;
comment on function explain_job is 'Why a job is where it is; no row if there is no such job. Counts at most 10000 jobs ahead.';
