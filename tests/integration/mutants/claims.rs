//! I2, I6: a job has one worker at a time and returns to the queue when its worker is lost.

super::mutants! {
    claim_must_take_only_queued_jobs: "queue::claiming::a_running_job_is_not_claimed_again" {
        "claim.sql": "j.state = 'queued'" => "j.state in ('queued', 'running')";
    }
    claim_must_lock_the_jobs_that_it_picks: "queue::claiming::a_job_in_an_uncommitted_claim_is_not_claimed_again" {
        // One of the two guards is enough: the row lock, or the `ctid`, which changes with every update.
        "claim.sql": "for no key update skip locked" => "", "j.ctid as tid" => "j.job_id as tid", "j.ctid = picked.tid" => "j.job_id = picked.tid";
    }
    claim_must_skip_paused_models: "queue::claiming::a_pause_stops_claims_of_one_model_only" {
        "claim.sql": "m.paused_at is null" => "true";
    }
    claim_must_refuse_a_draining_worker: "queue::fencing::a_draining_worker_cannot_claim" {
        "claim.sql": "and not w.draining" => "";
    }
    rescue_must_skip_locked_jobs: "queue::losing_workers::rescue_skips_a_locked_job" {
        "rescue.sql": "for no key update of j skip locked" => "for no key update of j nowait";
    }
    rescue_must_take_only_jobs_of_lost_workers: "queue::losing_workers::rescue_requeues_the_jobs_of_a_lost_worker_uncharged" {
        "rescue.sql": "w.lease_until < now()" => "true";
        "rescue.sql": "w.lease_until < now()" => "false";
    }
    rescue_must_take_jobs_of_workers_that_left:
        "queue::losing_workers::rescue_requeues_the_jobs_of_a_worker_that_left" {
        "rescue.sql": "or w.ended_at is not null" => "";
    }
}

super::functions! {
    rescue_must_count_an_interruption: "queue::losing_workers::rescue_requeues_the_jobs_of_a_lost_worker_uncharged" {
        "settle": "j.interruptions + (h.outcome = 'lost')::int" => "j.interruptions";
        "settle": "a.outcome in ('retried', 'timed_out') as is_charged" => "true as is_charged";
    }
}
