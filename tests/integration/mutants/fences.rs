//! I4, I5, I6: what a worker without the live lease writes does not land, and no lease number comes twice.

super::mutants! {
    heartbeat_needs_a_lease_that_runs: "queue::fencing::an_expired_worker_cannot_renew_its_lease" {
        "heartbeat.sql": "and lease_until > now()" => "";
    }
    claim_needs_a_lease_that_runs: "queue::fencing::an_expired_worker_cannot_claim" {
        "claim.sql": "and w.lease_until > now()" => "";
    }
    a_worker_that_left_needs_to_stay_away: "queue::fencing::a_worker_that_left_can_neither_renew_nor_claim" {
        "heartbeat.sql": "and ended_at is null" => "";
        "claim.sql": "and w.ended_at is null" => "";
    }
    every_verb_that_moves_a_lease_needs_a_new_number: "queue::invariants::no_lease_number_of_a_job_comes_twice" {
        "claim.sql": "lease_no = j.lease_no + 1" => "lease_no = j.lease_no";
    }
}

super::functions! {
    complete_needs_its_fence: "queue::fencing::a_stale_lease_cannot_complete_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    fail_needs_its_fence: "queue::fencing::a_stale_lease_cannot_fail_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    retry_needs_its_fence: "queue::fencing::a_stale_lease_cannot_retry_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    release_needs_its_fence: "queue::fencing::a_stale_lease_cannot_release_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    every_return_to_the_queue_needs_a_new_number: "queue::invariants::no_lease_number_of_a_job_comes_twice" {
        "settle": "lease_no = j.lease_no + 1" => "lease_no = j.lease_no";
    }
    a_retry_by_hand_needs_a_new_number: "queue::fencing::a_lease_from_before_a_retry_by_hand_is_stale" {
        "retry_job": "ended.lease_no + 1" => "ended.lease_no";
    }
}
