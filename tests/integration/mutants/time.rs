//! I2, I10: what must happen in time happens then, and not before.

super::mutants! {
    promote_needs_to_take_what_is_due_and_nothing_else: "queue::keeping_time::a_planned_job_waits_until_it_is_due" {
        "promote.sql": "run_at <= now()" => "true";
        "promote.sql": "run_at <= now()" => "false";
    }
    time_out_needs_to_take_what_ran_too_long_and_nothing_else:
        "queue::trying_again::an_attempt_that_runs_too_long_is_charged_and_tried_again" {
        "time_out.sql": "j.attempt_deadline_at < now()" => "true";
        "time_out.sql": "j.attempt_deadline_at < now()" => "false";
    }
    expire_needs_to_take_what_is_late_and_nothing_else:
        "queue::keeping_time::a_job_that_no_worker_began_before_its_deadline_expires" {
        "expire.sql": "j.deadline_at < now()" => "true";
        "expire.sql": "j.deadline_at < now()" => "false";
    }
    expire_needs_to_leave_running_jobs_alone: "queue::keeping_time::a_running_job_does_not_expire" {
        "expire.sql": "j.state in ('queued', 'scheduled')" => "true";
    }
    attempts_need_to_end_by_the_deadline: "queue::keeping_time::an_attempt_may_not_outlast_the_deadline_of_its_job" {
        "claim.sql": "least(now() + make_interval(secs => j.attempt_timeout_seconds), j.deadline_at)" => "now() + make_interval(secs => j.attempt_timeout_seconds)";
    }
}

super::functions! {
    a_late_attempt_needs_to_end_its_job: "queue::keeping_time::an_attempt_may_not_outlast_the_deadline_of_its_job" {
        "settle": "j.attempts_max and (j.deadline_at > now()) is not false" => "j.attempts_max";
    }
}
