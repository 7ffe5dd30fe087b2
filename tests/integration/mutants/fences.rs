//! I4, I5, I6: a worker without the live lease changes nothing, and a job never gets one lease number twice.

super::mutants! {
    heartbeat_must_check_the_end_of_the_lease: "queue::fencing::an_expired_worker_cannot_renew_its_lease" {
        "heartbeat.sql": "and lease_until > now()" => "";
    }
    claim_must_check_the_end_of_the_lease: "queue::fencing::an_expired_worker_cannot_claim" {
        "claim.sql": "and w.lease_until > now()" => "";
    }
    heartbeat_and_claim_must_refuse_a_worker_that_left: "queue::fencing::a_worker_that_left_can_neither_renew_nor_claim" {
        "heartbeat.sql": "and ended_at is null" => "";
        "claim.sql": "and w.ended_at is null" => "";
    }
    claim_must_increase_the_lease_number: "queue::invariants::a_job_never_gets_one_lease_number_twice" {
        "claim.sql": "lease_no = j.lease_no + 1" => "lease_no = j.lease_no";
    }
}

super::functions! {
    complete_must_check_the_lease_number: "queue::fencing::a_stale_lease_cannot_complete_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    fail_must_check_the_lease_number: "queue::fencing::a_stale_lease_cannot_fail_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    retry_must_check_the_lease_number: "queue::fencing::a_stale_lease_cannot_retry_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    release_must_check_the_lease_number: "queue::fencing::a_stale_lease_cannot_release_a_job" {
        "settle": "and l.lease_no = a.held_lease_no" => "and a.held_lease_no is not null";
    }
    settle_must_increase_the_lease_number: "queue::invariants::a_job_never_gets_one_lease_number_twice" {
        "settle": "lease_no = j.lease_no + 1" => "lease_no = j.lease_no";
    }
    a_retry_by_hand_must_increase_the_lease_number: "queue::fencing::a_lease_from_before_a_retry_by_hand_is_stale" {
        "retry_job": "ended.lease_no + 1" => "ended.lease_no";
    }
}
