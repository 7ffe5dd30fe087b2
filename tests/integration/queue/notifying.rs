//! A full queue of NOTIFY: one session that listens and stays in a transaction fills it. No change of a job fails.

use jobs::{db::Trouble, queue};
use sqlx::{Connection, PgConnection};
use tests::{given, servers};

/// The smallest queue that Postgres takes; an older Postgres has one of fixed size, which is too large to fill.
const SMALL_QUEUE: &str = "alter system set max_notify_queue_pages = 64";
/// More notifications than the small queue holds. A page holds one of these.
const FULL: usize = 200;

#[tokio::test]
async fn a_full_queue_of_notifications_fails_no_cancel_no_completion_and_no_purge() {
    let folder = servers::folder();
    let postgres = servers::start(folder.path(), "postgres").await;
    let mut admin = PgConnection::connect(&postgres.url()).await.unwrap();
    if sqlx::query(SMALL_QUEUE).execute(&mut admin).await.is_err() {
        return;
    }
    admin.close().await.unwrap();
    servers::stop(postgres).await;
    let postgres = servers::start(folder.path(), "postgres").await;
    let db = servers::migrate(&postgres.url()).await;
    let [canceled, completed, purged] = given::queued(&db, ["a", "b", "c"]).await;
    assert_eq!(
        queue::cancel(&db, purged, None).await.unwrap(),
        queue::CancelOutcome::AtOnce
    );

    let mut sleeper = PgConnection::connect(&postgres.url()).await.unwrap();
    // Listens from the end of the statement, so the transaction has to be another one.
    for statement in ["listen other", "begin; select 1"] {
        let statement = sqlx::raw_sql(statement).execute(&mut sleeper);
        statement.await.unwrap();
    }
    let mut refused = None;
    for number in 0..FULL {
        let notify = sqlx::query("select pg_notify('other', $1 || repeat('x', 7900))")
            .bind(number.to_string());
        if let Err(error) = notify.execute(&db).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the queue is full");
    assert_eq!(Trouble::of(&refused), Some(Trouble::NotifyQueueFull));

    let cancel = queue::cancel(&db, canceled, None).await.unwrap();
    assert_eq!(cancel, queue::CancelOutcome::AtOnce);
    let held = given::claimed_by(&db, "w").await;
    let done = tests::settling::complete(&db, &[held.completion("cat")]).await;
    assert_eq!(done.unwrap(), [completed]);
    queue::purge(&db, purged, None).await.unwrap();
    let retried = "select ops.retry($1), ops.pause('lite', 'full'), ops.resume('lite')";
    let retried = sqlx::query(retried).bind(canceled.uuid());
    retried.execute(&db).await.unwrap();
    let seen = "select ok from ops.health where name = 'notification queue'";
    let ok: bool = sqlx::query_scalar(seen).fetch_one(&db).await.unwrap();
    assert!(!ok, "operators see it");
}
