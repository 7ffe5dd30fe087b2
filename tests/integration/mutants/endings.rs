//! I1, I3, I10, I11: a job ends once and for a reason; retries end when the budget of attempts is used up.

super::functions! {
    complete_must_move_the_job_to_the_archive: "queue::fencing::a_result_is_committed_once" {
        "settle": "g.timings, g.forward_batch_size, g.forward_batch_position\n            from gone g left join takers w using (worker_id)" => "g.timings, g.forward_batch_size, g.forward_batch_position\n            from gone g left join takers w using (worker_id) where false";
        "settle": "delete from live_jobs j\n            using unnest" => "update live_jobs j set version = j.version\n            from unnest";
    }
    fail_must_be_final: "queue::retrying::a_permanent_fault_ends_the_job_at_the_first_attempt" {
        "settle": "delete from live_jobs j\n            using unnest" => "update live_jobs j set version = j.version\n            from unnest";
    }
    retry_must_back_off_and_stop_at_the_last_attempt:
        "queue::retrying::a_retried_job_backs_off_and_ends_failed_when_its_attempts_are_spent" {
        "goes_back": "when outcome = 'retried' then job.attempts_charged + 1 < job.attempts_max" => "when outcome = 'retried' then true";
        "settle": "now() + least(interval '10 min'" => "now() + 0 * least(interval '10 min'";
    }
    retry_must_charge_the_attempt: "queue::retrying::a_job_that_backs_off_is_not_claimed" {
        "settle": "attempts_charged = j.attempts_charged + h.is_charged::int" => "attempts_charged = j.attempts_charged";
    }
    the_backoff_needs_jitter: "queue::retrying::the_backoff_has_jitter" {
        "settle": "random()" => "0.5";
    }
    the_backoff_needs_a_ceiling: "queue::retrying::the_backoff_has_a_ceiling" {
        "settle": "interval '10 min'" => "interval '10 days'";
    }
    time_out_must_stop_at_the_last_attempt: "queue::retrying::a_job_whose_attempts_all_run_too_long_ends_failed" {
        "goes_back": "when outcome = 'timed_out' then job.attempts_charged + 1 < job.attempts_max and" => "when outcome = 'timed_out' then";
    }
    rescue_must_stop_at_the_last_interruption: "queue::losing_workers::a_job_that_loses_too_many_workers_ends_failed" {
        "goes_back": "job.interruptions + 1 < job.interruptions_max" => "true";
    }
    release_must_not_count_an_interruption: "queue::losing_workers::release_charges_nothing_and_keeps_the_place_in_the_queue" {
        "settle": "j.interruptions + (h.outcome = 'lost')::int" => "least(j.interruptions + 1, j.interruptions_max)";
    }
    a_retry_by_hand_must_refuse_a_succeeded_job: "queue::invariants::no_verb_changes_a_job_that_succeeded" {
        "retry_job": "f.state in ('failed', 'canceled', 'expired')" => "true";
    }
}
