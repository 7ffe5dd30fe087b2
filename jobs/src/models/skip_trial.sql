update model_versions v
set state = 'ready', state_cause = null, state_worker = null, state_at = now(), alias_wanted = null, trial_attempts = 0,
    trial_lease_no = v.trial_lease_no + 1, trial_worker_id = null, trial_expires_at = null
where v.model_version_id = $1 and v.state <> 'ready'
