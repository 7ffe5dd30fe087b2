//! I21: what was acknowledged is on the disk.

super::dropped! {
    commits_need_to_wait_for_the_disk: "queue::invariants::commits_wait_for_the_disk_though_wake_ups_do_not" {
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
    }
}

super::mutants! {
    the_haste_of_a_wake_up_needs_to_end_with_it: "queue::invariants::commits_wait_for_the_disk_though_wake_ups_do_not" {
        "notify.rs" at "with quick as": "'off', true" => "'off', false";
    }
}
