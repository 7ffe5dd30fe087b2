//! I21: an acknowledged job is on the disk.

super::dropped! {
    commits_must_wait_for_the_disk: "queue::invariants::all_commits_but_wake_ups_wait_for_the_disk" {
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
    }
}

super::mutants! {
    asynchronous_commit_must_end_with_the_wake_up: "queue::invariants::all_commits_but_wake_ups_wait_for_the_disk" {
        "notify.rs" at "with quick as": "'off', true" => "'off', false";
    }
}
