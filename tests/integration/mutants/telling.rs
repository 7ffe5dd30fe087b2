//! I20: what happened is told to those whom it concerns, and to nobody before it did.

super::mutants! {
    the_feed_needs_to_wait_for_older_transactions:
        "queue::publishing::nothing_is_published_before_its_commit_and_nothing_that_is_committed_late_is_left_out" {
        "../events/feed.sql": "e.xact < pg_snapshot_xmin(pg_current_snapshot())" => "true";
    }
    the_feed_needs_its_owner: "queue::publishing::every_end_is_an_event_whichever_verb_made_it" {
        "../events/feed.sql": "e.owner = $1" => "$1::text is not null";
    }
    a_sender_needs_its_lease: "queue::delivering::what_one_process_is_sending_no_other_takes_until_its_lease_is_over" {
        "../webhooks/claim.sql": "next_attempt_at = now() + make_interval(secs => $5)" => "next_attempt_at = d.next_attempt_at";
        "../webhooks/claim.sql": "lease_no = d.lease_no + 1" => "lease_no = d.lease_no";
        "../webhooks/settle.sql": "d.lease_no = $2" => "$2::int is not null";
    }
    a_sender_needs_to_pass_over_what_another_is_taking: "queue::delivering::a_delivery_that_another_process_is_claiming_is_passed_over" {
        "../webhooks/claim.sql": "skip locked" => "";
    }
    a_host_needs_its_limit: "queue::delivering::a_host_has_no_more_at_once_than_it_may_and_does_not_hold_back_the_others" {
        "../webhooks/claim.sql": "w.place <= $2 - coalesce(b.sends, 0)" => "true";
    }
}

super::functions! {
    a_receiver_needs_to_be_its_owners: "queue::delivering::an_end_is_told_to_the_jobs_own_webhook_and_to_its_owners_endpoints_that_want_it" {
        "settle": "w.owner = g.owner and" => "";
        "settle": "w.disabled_at is null and 'job.'" => "'job.'";
        "settle": "= any(w.events)" => "is not null";
        "settle": "as url where g.webhook_url is not null" => "as url where false";
    }
    an_end_needs_to_be_published: "queue::publishing::every_end_is_an_event_whichever_verb_made_it" {
        "settle": "array_agg(g.job_id) from gone g" => "array_agg(g.job_id) from gone g where false";
    }
}
