-- By the clock of the database. Two processes may run it at once: each passes over the rows that the other has locked.
with lost as materialized (
    select v.model_version_id, v.trial_lease_no, w.ended_at is not null as has_left, v.trial_expires_at < now() as is_late
    from model_versions v left join workers w on w.worker_id = v.trial_worker_id
    where v.state = 'validating' and v.trial_worker_id is not null
      and (w.worker_id is null or w.lease_until < now() or w.ended_at is not null or v.trial_expires_at < now())
    order by v.model_version_id limit 100 for no key update of v skip locked
)
select end_trial(model_version_id, trial_lease_no, case when has_left then 'released' else 'lost' end,
                 case when has_left then 'the worker left before the version was loaded'
                      when is_late then 'the worker did not load the version in time'
                      else 'the worker died while it loaded the version' end) as "state!"
from lost
