//! I3, I6, I9, I10, I12: constraints refuse invalid rows from every writer.

super::dropped! {
    each_constraint_is_needed: "queue::invariants::the_tables_refuse_invalid_states" {
        "alter table live_jobs drop constraint live_jobs_pkey";
        "alter table live_jobs drop constraint live_means_not_terminal";
        "alter table live_jobs drop constraint held_by_a_worker_exactly_while_running";
        "alter table live_jobs drop constraint charged_within_budget";
        "alter table live_jobs drop constraint interruptions_within_budget";
        "alter table finished_jobs drop constraint finished_jobs_pkey";
        "alter table finished_jobs drop constraint finished_means_terminal";
        "alter table finished_jobs drop constraint a_result_exactly_when_succeeded";
        "alter table finished_jobs drop constraint a_problem_when_failed";
        "alter table idempotency_keys drop constraint idempotency_keys_pkey";
    }
}
