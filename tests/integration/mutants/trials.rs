//! I22: a version is used only after a worker has loaded it, and only the worker that holds the trial decides.

super::mutants! {
    claim_trial_must_pass_over_a_trial_that_another_worker_has:
        "queue::trials::a_trial_belongs_to_one_worker_until_its_lease_ends" {
        "../models/claim_trial.sql": "and v.trial_worker_id is null" => "";
    }
    claim_trial_must_check_the_worker: "queue::trials::only_a_live_worker_that_runs_the_model_claims_a_trial" {
        "../models/claim_trial.sql": "and w.lease_until > now()" => "";
        "../models/claim_trial.sql": "and w.ended_at is null" => "";
        "../models/claim_trial.sql": "and not w.draining" => "";
        "../models/claim_trial.sql": "and (cardinality(w.models) = 0 or m.name = any(w.models))" => "";
        "../models/claim_trial.sql": "and v.retired_at is null" => "";
    }
    rescue_trials_must_leave_trials_of_live_workers: "queue::trials::a_trial_belongs_to_one_worker_until_its_lease_ends" {
        "../models/rescue_trials.sql": "w.lease_until < now()" => "true";
    }
    rescue_trials_must_take_back_what_hangs: "queue::trials::a_worker_that_hangs_loses_the_trial" {
        "../models/rescue_trials.sql": "or v.trial_expires_at < now())" => ")";
    }
    a_job_must_name_a_ready_version: "queue::trials::no_job_names_a_version_that_is_not_ready" {
        "../models/resolve.rs" at "from unnest($1::text[]": "and v.state = 'ready'" => "";
    }
}

super::functions! {
    end_trial_must_check_the_lease_number: "queue::trials::a_verdict_of_a_worker_that_lost_the_trial_changes_nothing" {
        "end_trial": "and v.trial_lease_no = end_trial.lease_no" => "and end_trial.lease_no is not null";
    }
    end_trial_must_count_lost_workers: "queue::trials::the_third_worker_that_dies_rejects_the_version" {
        "end_trial": "or attempts >= attempts_max" => "";
    }
    end_trial_must_move_no_alias_to_a_retired_version:
        "queue::trials::no_alias_moves_to_a_version_that_was_retired_during_its_trial" {
        "end_trial": "and held.retired_at is null" => "";
    }
    an_alias_must_mean_a_ready_version: "queue::trials::no_alias_moves_to_a_version_that_is_not_ready" {
        "set_model_alias": "elsif picked.state <> 'ready' then" => "elsif false then";
    }
    a_job_in_sql_must_name_a_ready_version:
        "queue::trials::no_job_of_an_sql_transaction_names_a_version_that_is_not_ready" {
        "enqueue_job": "and v.state = 'ready'" => "";
    }
    an_alias_that_was_moved_by_hand_must_stay: "queue::trials::the_last_wish_for_an_alias_counts" {
        "set_model_alias": "and v.alias_wanted = set_model_alias.alias" => "and false";
    }
}
