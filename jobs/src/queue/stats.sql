select s.model as "model!", s.queued as "queued!", s.running as "running!", coalesce(q.scheduled, 0)::bigint as "scheduled!",
       q.oldest_age_seconds, s.arrived_per_second as "arrived_per_second!", finished_per_second(m.model_id) as "finished_per_second!",
       s.finished_per_worker_second, s.work_seconds, s.live_workers as "live_workers!", s.desired_workers as "desired_workers!", s.paused as "paused!",
       m.pause_reason
from ops.scaling s
join models m on m.name = s.model
left join (
    select model, sum(scheduled)::bigint as scheduled, max(oldest_age_seconds) as oldest_age_seconds from ops.queue group by model
) q using (model)
order by s.model
