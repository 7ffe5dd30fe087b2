//! A database that is dumped and restored into a younger cluster: transaction ids begin anew there, and roles are missing.

use std::{path::Path, process::Command, time::Duration};

use jobs::{
    JobId, db,
    events::{Cursor, Event, EventType, Subject, feed},
    queue,
};
use local::Postgres;
use sqlx::{AssertSqlSafe, PgPool};
use tests::{eventually, given, servers};

const ENDS: [EventType; 1] = [EventType::JobCanceled];

async fn cancel_one(db: &PgPool, name: &str) -> JobId {
    let [job] = given::queued(db, [name]).await;
    queue::cancel(db, job, None).await.unwrap();
    job
}

fn subject(event: &Event) -> JobId {
    match event.subject {
        Subject::Job(job) => job,
        Subject::Batch(_) => panic!("the event must be about a job"),
    }
}

/// Waits until the feed shows this many events after the cursor. Returns their jobs, and the cursor behind these.
async fn events_after(db: &PgPool, after: Cursor, count: usize) -> (Vec<JobId>, Cursor) {
    let what = format!("the feed has {count} events");
    eventually(Duration::from_secs(30), &what, || async {
        let page = feed(db, given::OWNER, after, &ENDS, 100).await.unwrap();
        let jobs: Vec<_> = page.events.iter().map(subject).collect();
        (jobs.len() == count).then_some((jobs, page.next))
    })
    .await
}

/// Lets the cluster look old, so that its transaction ids are larger than those of a new cluster.
async fn spend_transaction_ids(db: &PgPool) {
    let spend =
        "do $$ begin for n in 1..3000 loop perform pg_current_xact_id(); commit; end loop; end $$";
    sqlx::raw_sql(spend).execute(db).await.unwrap();
}

fn dump_and_restore(from: &Postgres, to: &Postgres, dump: &Path) {
    let program = |name: &str| Command::new(from.bin().join(name));
    servers::run(
        program("pg_dump")
            .args(["--format=custom", "--file"])
            .arg(dump)
            .arg(format!("--dbname={}", from.url())),
    );
    // Grants to missing roles fail, and the rest is restored: an error code is expected.
    let restored = program("pg_restore")
        .arg(format!("--dbname={}", to.url()))
        .arg(dump)
        .output();
    let said = String::from_utf8_lossy(&restored.unwrap().stderr).into_owned();
    assert!(said.contains("darkroom_api"), "{said}");
}

async fn unhealthy(db: &PgPool) -> Vec<String> {
    let names = "select name from ops.health where not ok and name in ('events of another cluster', 'missing roles') order by 1";
    sqlx::query_scalar(names).fetch_all(db).await.unwrap()
}

async fn can(db: &PgPool, role: &str, table: &str) -> bool {
    let can = "select has_table_privilege($1, $2, 'select')";
    let can = sqlx::query_scalar(can).bind(role).bind(table);
    can.fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn a_database_that_was_restored_into_a_younger_cluster_keeps_its_feed_and_its_grants() {
    let folder = servers::folder();
    let old = servers::start(folder.path(), "old").await;
    let before = servers::migrate(&old.url()).await;
    spend_transaction_ids(&before).await;
    let mut jobs = vec![];
    for name in ["a", "b", "c"] {
        jobs.push(cancel_one(&before, name).await);
    }
    let (seen, _) = events_after(&before, Cursor::BEGINNING, 3).await;
    assert_eq!(seen, jobs);
    let page = feed(&before, given::OWNER, Cursor::BEGINNING, &ENDS, 2).await;
    // A client has the cursor as text.
    let cursor: Cursor = page.unwrap().next.to_string().parse().unwrap();

    let new = servers::start(folder.path(), "new").await;
    dump_and_restore(&old, &new, &folder.path().join("dump"));
    let after = servers::connect(&new.url());
    assert_eq!(
        unhealthy(&after).await,
        ["events of another cluster", "missing roles"]
    );
    let hidden = feed(&after, given::OWNER, Cursor::BEGINNING, &ENDS, 100).await;
    assert!(
        hidden.unwrap().events.is_empty(),
        "else the new cluster is too old for this test"
    );
    // Written here, before any process has noticed.
    jobs.push(cancel_one(&after, "d").await);

    assert!(db::adopt_cluster(&after).await.unwrap());
    assert!(!db::adopt_cluster(&after).await.unwrap(), "done");
    jobs.push(cancel_one(&after, "e").await);
    let (all, end) = events_after(&after, Cursor::BEGINNING, 5).await;
    assert_eq!(all, jobs, "old events first, each once");
    let (rest, _) = events_after(&after, cursor, 3).await;
    assert_eq!(rest, jobs[2..], "a cursor of before goes on");
    jobs.push(cancel_one(&after, "f").await);
    let (last, _) = events_after(&after, end, 1).await;
    assert_eq!(last, jobs[5..]);

    assert!(unhealthy(&after).await.is_empty());
    assert!(can(&after, "darkroom_api", "live_jobs").await);
    assert!(can(&after, "darkroom_reader", "ops.jobs").await);
    assert!(!can(&after, "darkroom_reader", "live_jobs").await);
}

/// A second restore, into the first cluster again: its transaction ids are smaller than those of the dump.
#[tokio::test]
async fn each_adoption_goes_on_behind_all_events_of_before() {
    let db = given::database().await;
    let mut jobs = vec![];
    for name in ["a", "b", "c"] {
        jobs.push(cancel_one(&db, name).await);
        let moved = format!("update event_cluster set cluster_id = 'left before {name}'");
        sqlx::raw_sql(AssertSqlSafe(moved))
            .execute(&*db)
            .await
            .unwrap();
        assert!(db::adopt_cluster(&db).await.unwrap());
    }
    jobs.push(cancel_one(&db, "d").await);
    let (all, _) = events_after(&db, Cursor::BEGINNING, 4).await;
    assert_eq!(all, jobs);
}
