-- Oldest first; a version that another worker is taking is passed over.
with picked as materialized (
    select v.model_version_id
    from model_versions v join models m using (model_id)
    where v.state = 'validating' and v.trial_worker_id is null and v.retired_at is null and v.model_version_id <> all ($2::bigint[])
        -- A worker whose lease has run out, or that was asked to leave, gets nothing.
        and exists (select 1 from workers w where w.worker_id = $1 and w.lease_until > now() and w.ended_at is null and not w.draining
                                              and (cardinality(w.models) = 0 or m.name = any(w.models)))
    order by v.model_version_id limit 1 for no key update of v skip locked
)
update model_versions v
set trial_worker_id = $1, trial_lease_no = v.trial_lease_no + 1, trial_expires_at = now() + make_interval(secs => $3)
from picked where v.model_version_id = picked.model_version_id
returning v.model_version_id, v.trial_lease_no
