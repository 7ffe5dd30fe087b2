//! I12, I13, I15, and the separation of owners: the promises to clients.

super::mutants! {
    a_key_must_keep_its_first_job: "queue::submitting::concurrent_submits_with_one_key_queue_one_job" {
        "enqueue.sql": "except select job_id from first" => "where false";
        "enqueue.sql": "on conflict (owner, key) do nothing" => "on conflict (owner, key) do update set job_id = excluded.job_id";
    }
    reads_must_be_filtered_by_owner: "queue::invariants::owners_do_not_see_each_others_jobs" {
        "find.rs" at "from unnest($1::uuid[]": "and x.owner = any(array[asked.by])" => "and asked.by is not null";
        // A list reads its jobs by `find.rs` too. That guard also covers the ids that `list_ids.sql` found.
        "idempotency.rs" at "select job_id, batch_id, fingerprint": "owner = $1" => "$1::text is not null";
        "../images/image_loader.rs" at "with unused as": "select * from images i where i.owner = asked.owner" => "select * from images i where asked.owner is not null";
    }
    claim_must_increase_the_version: "queue::contract::the_version_grows_with_every_change" {
        "claim.sql": "version = j.version + 1" => "version = j.version";
    }
}

super::functions! {
    settle_must_increase_the_version: "queue::contract::the_version_grows_with_every_change" {
        "settle": "version = j.version + 1" => "version = j.version";
        "settle": "g.version + 1" => "g.version";
    }
    complete_must_respect_a_cancel: "queue::canceling::a_running_job_with_a_requested_cancel_ends_canceled_after_a_completion" {
        "settle": "case when j.cancel_requested or a.outcome = 'canceled'" => "case when a.outcome = 'canceled'";
    }
    fail_retry_and_time_out_must_respect_a_cancel:
        "queue::canceling::a_running_job_with_a_requested_cancel_ends_canceled_after_a_failure" {
        "settle": "case when j.cancel_requested or a.outcome = 'canceled'" => "case when a.outcome = 'canceled'";
        "goes_back": "case when job.cancel_requested then false" => "case when false then false";
    }
    rescue_must_respect_a_cancel: "queue::losing_workers::rescue_ends_a_job_with_a_requested_cancel" {
        "goes_back": "case when job.cancel_requested then false" => "case when false then false";
    }
    release_must_respect_a_cancel: "queue::losing_workers::release_ends_a_job_with_a_requested_cancel" {
        "goes_back": "case when job.cancel_requested then false" => "case when false then false";
    }
    settle_must_look_again_after_a_race: "queue::canceling::an_outcome_that_waits_for_a_cancel_ends_the_job_as_canceled" {
        "settle": "in 1..2 loop" => "in 1..1 loop";
    }
    cancel_must_mark_a_running_job: "queue::canceling::a_running_job_with_a_requested_cancel_ends_canceled_after_a_completion" {
        "cancel_job": "set cancel_requested = true" => "set cancel_requested = j.cancel_requested";
    }
    cancel_must_look_again_after_a_race: "queue::canceling::a_cancel_that_waits_for_a_claim_marks_the_running_job" {
        "cancel_job": "in 1..4 loop" => "in 1..1 loop";
    }
    writes_must_be_filtered_by_owner: "queue::invariants::owners_do_not_change_each_others_jobs" {
        "cancel_job": "(cancel_job.owner is null or f.owner = cancel_job.owner)" => "true";
        "cancel_job": "(cancel_job.owner is null or j.owner = cancel_job.owner)" => "true";
        "retry_job": "(retry_job.owner is null or f.owner = retry_job.owner)" => "true";
        "purge_job": "(purge_job.owner is null or f.owner = purge_job.owner)" => "true";
    }
}
