//! I14: the backlog of one owner does not delay the jobs of other owners.

super::mutants! {
    a_new_lane_must_start_at_the_head_of_the_queue: "queue::fairness::a_job_does_not_wait_for_the_backlog_of_another_owner" {
        "enqueue.sql": "order by j.priority desc, j.seq limit 1" => "order by j.seq desc limit 1";
    }
    an_idle_lane_must_get_no_credit: "queue::fairness::an_idle_owner_gets_no_credit_for_the_past" {
        "enqueue.sql": "greatest(l.next_seq, excluded.next_seq - excluded.taken)" => "l.next_seq";
    }
    a_turn_must_pass_over_higher_priorities: "queue::fairness::lower_priorities_get_their_share_beside_a_backlog_of_urgent_jobs" {
        "claim.sql": "least(coalesce(stretch.highest, 32767::smallint), $8::smallint)" => "greatest(coalesce(stretch.highest, 32767::smallint), $8::smallint)";
    }
    jobs_of_a_lane_must_keep_their_order: "queue::fairness::jobs_of_one_owner_keep_their_order" {
        "enqueue.sql": "[i.lane_no] + i.nth" => "[i.lane_no] - i.nth";
    }
}
