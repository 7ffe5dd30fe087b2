//! I2, I10: housekeeping acts on a job when its time has come, and not before.

super::mutants! {
    promote_must_take_only_due_jobs: "queue::expiring_and_promoting::a_scheduled_job_waits_for_its_run_time" {
        "promote.sql": "run_at <= now()" => "true";
        "promote.sql": "run_at <= now()" => "false";
    }
    time_out_must_take_only_overdue_attempts:
        "queue::retrying::an_attempt_that_runs_too_long_is_charged_and_retried" {
        "time_out.sql": "j.attempt_deadline_at < now()" => "true";
        "time_out.sql": "j.attempt_deadline_at < now()" => "false";
    }
    expire_must_take_only_late_jobs:
        "queue::expiring_and_promoting::a_job_that_is_not_claimed_before_its_deadline_expires" {
        "expire.sql": "j.deadline_at < now()" => "true";
        "expire.sql": "j.deadline_at < now()" => "false";
    }
    expire_must_skip_running_jobs: "queue::expiring_and_promoting::a_running_job_does_not_expire" {
        "expire.sql": "j.state in ('queued', 'scheduled')" => "true";
    }
    claim_must_end_an_attempt_at_the_deadline: "queue::expiring_and_promoting::an_attempt_ends_by_the_deadline_of_its_job" {
        "claim.sql": "least(now() + make_interval(secs => j.attempt_timeout_seconds), j.deadline_at)" => "now() + make_interval(secs => j.attempt_timeout_seconds)";
    }
}

super::functions! {
    a_time_out_after_the_deadline_must_end_the_job: "queue::expiring_and_promoting::an_attempt_ends_by_the_deadline_of_its_job" {
        "goes_back": "job.attempts_max and (job.deadline_at > now()) is not false" => "job.attempts_max";
    }
}
