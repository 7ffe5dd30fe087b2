//! I14: nobody's backlog makes the others wait, and nobody pushes the others aside.

super::mutants! {
    a_new_lane_needs_to_start_where_the_queue_stands: "queue::fairness::one_job_does_not_wait_for_anothers_backlog" {
        "enqueue.sql": "order by j.priority desc, j.seq limit 1" => "order by j.seq desc limit 1";
    }
    an_idle_lane_needs_to_get_no_credit: "queue::fairness::an_owner_that_was_idle_does_not_push_the_busy_one_aside" {
        "enqueue.sql": "greatest(l.next_seq, excluded.next_seq - excluded.taken)" => "l.next_seq";
    }
    jobs_need_to_keep_their_order: "queue::fairness::an_owners_jobs_keep_their_order" {
        "enqueue.sql": "[i.lane_no] + i.nth" => "[i.lane_no] - i.nth";
    }
}
