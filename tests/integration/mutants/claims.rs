//! I2, I6: a job is in one hand at a time, and comes back from a hand that is lost.

super::mutants! {
    claim_needs_to_leave_running_jobs_alone: "queue::claiming::a_running_job_is_not_claimed_again" {
        "claim.sql": "j.state = 'queued'" => "j.state in ('queued', 'running')";
    }
    claim_needs_to_hold_what_it_picks: "queue::claiming::what_a_claim_is_taking_no_other_claim_takes" {
        // Either is enough: the row lock, or the place of the row that changes with every update.
        "claim.sql": "for no key update skip locked" => "", "j.ctid as tid" => "j.job_id as tid", "j.ctid = picked.tid" => "j.job_id = picked.tid";
    }
    claim_needs_to_leave_paused_models_alone: "queue::claiming::a_paused_model_is_not_claimed_and_the_others_are" {
        "claim.sql": "m.paused_at is null" => "true";
    }
    claim_needs_to_mind_who_was_asked_to_leave: "queue::fencing::a_worker_that_was_asked_to_leave_cannot_claim" {
        "claim.sql": "and not w.draining" => "";
    }
    rescue_needs_to_pass_over_what_another_holds: "queue::losing_workers::a_rescuer_passes_over_a_job_that_is_being_completed" {
        "rescue.sql": "for no key update of j skip locked" => "for no key update of j nowait";
    }
    rescue_needs_to_take_what_is_lost_and_nothing_else: "queue::losing_workers::rescue_gives_back_the_jobs_of_a_lost_worker_uncharged" {
        "rescue.sql": "w.lease_until < now()" => "true";
        "rescue.sql": "w.lease_until < now()" => "false";
    }
    rescue_needs_to_take_what_was_left_behind:
        "queue::losing_workers::rescue_takes_the_jobs_of_a_worker_that_left_without_releasing_them" {
        "rescue.sql": "or w.ended_at is not null" => "";
    }
}

super::functions! {
    rescue_needs_to_count_an_interruption: "queue::losing_workers::rescue_gives_back_the_jobs_of_a_lost_worker_uncharged" {
        "settle": "a.outcome = 'lost' and not j.cancel_requested as is_interrupted" => "false as is_interrupted";
        "settle": "a.outcome in ('succeeded', 'failed', 'retried', 'timed_out')" => "a.outcome in ('succeeded', 'failed', 'retried', 'timed_out', 'lost')";
    }
}
