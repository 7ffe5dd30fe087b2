//! I12, I13, I15, and that owners share nothing: the promises to those who submit.

super::mutants! {
    a_key_needs_to_stand_for_the_first_job: "queue::submitting::submits_under_one_key_at_once_are_one_job" {
        "enqueue.sql": "except select job_id from first" => "where false";
        "enqueue.sql": "on conflict (owner, key) do nothing" => "on conflict (owner, key) do update set job_id = excluded.job_id";
    }
    readers_need_their_owner: "queue::invariants::owners_do_not_see_each_others_jobs" {
        "find.rs" at "from unnest($1::uuid[]": "and x.owner = any(array[asked.by])" => "and asked.by is not null";
        "list.rs" at "from ops.jobs": "where owner = $1" => "where $1::text is not null";
        "idempotency.rs" at "select job_id, batch_id, fingerprint": "owner = $1" => "$1::text is not null";
        "../images/finder.rs" at "with unused as": "select * from images i where i.owner = asked.owner" => "select * from images i where asked.owner is not null";
    }
    every_change_needs_a_new_version: "queue::contract::the_version_grows_with_every_change" {
        "claim.sql": "version = j.version + 1" => "version = j.version";
    }
}

super::functions! {
    every_way_out_of_a_lease_needs_a_new_version: "queue::contract::the_version_grows_with_every_change" {
        "settle": "version = j.version + 1" => "version = j.version";
        "settle": "g.version + 1" => "g.version";
    }
    complete_needs_to_mind_a_cancel: "queue::canceling::a_running_job_whose_cancel_was_asked_for_ends_canceled_though_it_completes" {
        "settle": "case when j.cancel_requested or h.outcome = 'canceled'" => "case when h.outcome = 'canceled'";
    }
    whatever_ends_an_attempt_needs_to_mind_a_cancel:
        "queue::canceling::a_running_job_whose_cancel_was_asked_for_ends_canceled_though_it_fails" {
        "settle": "case when j.cancel_requested or h.outcome = 'canceled'" => "case when h.outcome = 'canceled'";
        "settle": "case when j.cancel_requested then false" => "case when false then false";
    }
    rescue_needs_to_mind_a_cancel: "queue::losing_workers::a_job_whose_cancel_was_asked_for_ends_with_its_lost_worker" {
        "settle": "case when j.cancel_requested then false" => "case when false then false";
    }
    release_needs_to_mind_a_cancel: "queue::losing_workers::release_ends_a_job_whose_cancel_was_asked_for" {
        "settle": "case when j.cancel_requested then false" => "case when false then false";
    }
    an_outcome_that_waited_for_a_cancel_needs_a_second_look: "queue::canceling::an_outcome_that_races_with_a_cancel_ends_the_job_as_canceled" {
        "settle": "in 1..2 loop" => "in 1..1 loop";
    }
    cancel_needs_to_ask_the_worker: "queue::canceling::a_running_job_whose_cancel_was_asked_for_ends_canceled_though_it_completes" {
        "cancel_job": "set cancel_requested = true" => "set cancel_requested = j.cancel_requested";
    }
    cancel_needs_to_look_again_after_a_race: "queue::canceling::a_cancel_that_races_with_a_claim_takes_hold_of_the_job" {
        "cancel_job": "in 1..4 loop" => "in 1..1 loop";
    }
    writers_need_their_owner: "queue::invariants::owners_do_not_touch_each_others_jobs" {
        "cancel_job": "(cancel_job.owner is null or f.owner = cancel_job.owner)" => "true";
        "cancel_job": "(cancel_job.owner is null or j.owner = cancel_job.owner)" => "true";
        "retry_job": "(retry_job.owner is null or f.owner = retry_job.owner)" => "true";
        "purge_job": "(purge_job.owner is null or f.owner = purge_job.owner)" => "true";
    }
}
