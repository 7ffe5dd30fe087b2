//! I21: what was acknowledged is on the disk.

use tests::mutant::Mutation;

super::dropped! {
    commits_need_to_wait_for_the_disk: "queue::invariants::commits_wait_for_the_disk_though_wake_ups_do_not" {
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_haste_of_a_wake_up_needs_to_end_with_it() {
    let statement = "with quick as materialized (select set_config('synchronous_commit', 'off', true))
         select pg_notify(channel, payload) from quick, unnest($1::text[], $2::text[]) as news(channel, payload)";
    let mutation = Mutation::of(statement, &[("'off', true", "'off', false")]);
    let test = "queue::invariants::commits_wait_for_the_disk_though_wake_ups_do_not";
    super::fails_with_each(test, &[mutation]).await;
}
