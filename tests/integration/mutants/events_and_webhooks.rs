//! I20: an event reaches only its receivers, and only after the commit.

super::mutants! {
    the_feed_must_wait_for_older_transactions:
        "queue::publishing::the_feed_shows_no_uncommitted_event_and_omits_no_late_event" {
        "../events/feed.sql": "e.xact < (select (c.xact_offset + pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::text::xid8 from event_cluster c)" => "true";
    }
    the_feed_must_be_filtered_by_owner: "queue::publishing::every_verb_that_ends_a_job_publishes_an_event" {
        "../events/feed.sql": "e.owner = $1" => "$1::text is not null";
    }
    a_delivery_needs_its_lease: "queue::delivering::a_delivery_belongs_to_one_process_until_its_lease_ends" {
        "../webhooks/claim.sql": "next_attempt_at = now() + make_interval(secs => $7)" => "next_attempt_at = d.next_attempt_at";
        "../webhooks/claim.sql": "lease_no = d.lease_no + 1" => "lease_no = d.lease_no";
        "../webhooks/settle.sql": "d.lease_no = $2" => "$2::int is not null";
    }
    a_delivery_claim_must_skip_locked_deliveries: "queue::delivering::a_delivery_in_an_uncommitted_claim_is_skipped" {
        "../webhooks/claim.sql": "skip locked" => "";
    }
    a_host_needs_a_limit_of_sends: "queue::delivering_in_turn::a_busy_host_is_limited_and_does_not_delay_other_hosts" {
        "../webhooks/claim.sql": "where h.of_host <= $2" => "";
    }
    an_owner_needs_a_limit_at_a_host: "queue::delivering_in_turn::an_owner_leaves_room_at_a_host_for_other_owners" {
        "../webhooks/claim.sql": "where w.of_destination <= $2 - $2 / 4" => "";
    }
    an_owner_needs_a_limit_of_sends: "queue::delivering_in_turn::an_owner_gets_no_more_than_its_share_of_the_sends" {
        "../webhooks/claim.sql": "where of_owner <= $3 order by of_owner" => "where $3::int is not null order by of_owner";
    }
    owners_must_take_turns: "queue::delivering_in_turn::owners_and_their_hosts_take_turns" {
        "../webhooks/claim.sql": "order by of_owner, next_attempt_at) w" => "order by next_attempt_at) w";
        "../webhooks/claim.sql": "partition by h.owner order by h.of_destination, h.next_attempt_at" => "partition by h.owner order by h.next_attempt_at, h.of_destination";
    }
}

super::functions! {
    an_event_must_reach_only_its_receivers: "queue::delivering::the_end_of_a_job_is_sent_to_its_webhook_and_to_endpoints_of_its_owner" {
        "settle": "w.owner = g.owner and" => "";
        "settle": "w.disabled_at is null and 'job.'" => "'job.'";
        "settle": "= any(w.events)" => "is not null";
        "settle": "as url where g.webhook_url is not null" => "as url where false";
    }
    the_end_of_a_job_must_be_published: "queue::publishing::every_verb_that_ends_a_job_publishes_an_event" {
        "settle": "array_agg(g.job_id) from gone g" => "array_agg(g.job_id) from gone g where false";
    }
}
