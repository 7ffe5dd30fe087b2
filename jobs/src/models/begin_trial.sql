with begun as (
    update model_versions v
    set state = 'validating', alias_wanted = coalesce($2, v.alias_wanted),
        state_cause = case v.state when 'validating' then v.state_cause end, state_worker = case v.state when 'validating' then v.state_worker end,
        state_at = case v.state when 'validating' then v.state_at else now() end,
        trial_attempts = case v.state when 'validating' then v.trial_attempts else 0 end
    where v.model_version_id = $1 and v.state <> 'ready'
    returning v.model_id
),
-- The last wish counts: another version that is still validating does not take the alias away later.
withdrawn as (
    update model_versions v set alias_wanted = null from begun
    where v.model_id = begun.model_id and v.alias_wanted = $2 and v.model_version_id <> $1
)
select exists (select 1 from begun) as "has_begun!", pg_notify('darkroom_trials', '') as "notified"
