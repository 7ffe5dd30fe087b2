//! A failover whose address leads to a standby for a while: connections to the standby are closed, not kept.

use std::time::Duration;

use futures_util::future::join_all;
use jobs::{
    JobId,
    db::{Db, NotReady, StatementPool, Trouble},
    models::Resolved,
    queue::{self, Enqueuer, EnqueuerConfig, QueueError},
};
use tests::{eventually, given, servers::Failover};

/// How soon everything works after the primary is back.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the beginning of the outage.
const OUTAGE_MAX: Duration = Duration::from_secs(20);

async fn failover() -> Failover {
    let fill = async |db: &Db| {
        given::model_version(db, given::MODEL).await;
    };
    Failover::start(fill).await
}

/// Queues a job as the API does.
async fn submit(enqueuer: &Enqueuer, model: &Resolved) -> Result<JobId, QueueError> {
    let job = given::job(model, &uuid::Uuid::now_v7().to_string());
    let id = job.id;
    enqueuer.submit(job).await.map(|_| id)
}

/// Whether the next connection of the pool leads to the standby; `None` if it is broken.
async fn is_read_only(db: &Db) -> Option<bool> {
    let shown = sqlx::query_scalar("show transaction_read_only");
    let shown: Result<String, sqlx::Error> = shown.fetch_one(db).await;
    shown.ok().map(|shown| shown == "on")
}

#[tokio::test]
async fn writes_work_soon_after_the_address_leads_to_the_primary_again() {
    let servers = failover().await;
    let db = tests::servers::connect(&servers.url());
    let model = given::resolved(&db, given::MODEL).await;
    let config = EnqueuerConfig {
        enqueue_batch_max: 10,
        enqueue_waiting_max: 100,
        enqueue_company_ms: 0,
    };
    let enqueuer = Enqueuer::start(StatementPool::with_one_plan(db.clone()), &config);
    let first = submit(&enqueuer, &model).await.unwrap();
    db.check_ready().await.unwrap();

    servers.lose_primary();
    eventually(OUTAGE_MAX, "a submit is refused by the standby", || async {
        let error = submit(&enqueuer, &model).await.err()?;
        (Trouble::of(&error) == Some(Trouble::ReadOnly)).then_some(())
    })
    .await;
    eventually(OUTAGE_MAX, "the process is not ready", || async {
        let not_ready = db.check_ready().await.err()?;
        matches!(not_ready, NotReady::Trouble(Trouble::ReadOnly)).then_some(())
    })
    .await;
    // Many connections lead to the standby now.
    let most = db.options().get_max_connections();
    drop(join_all((0..most).map(|_| db.acquire())).await);
    eventually(OUTAGE_MAX, "reads work", || async {
        let read = queue::find(&db, first, given::OWNER).await;
        read.is_ok().then_some(())
    })
    .await;

    servers.find_primary();
    eventually(RECOVERY_MAX, "a submit is committed", || async {
        submit(&enqueuer, &model).await.ok()
    })
    .await;
    eventually(
        RECOVERY_MAX,
        "no connection leads to the standby",
        || async {
            let all = (0..most).map(|_| is_read_only(&db));
            let all = join_all(all).await;
            all.iter().all(|it| *it == Some(false)).then_some(())
        },
    )
    .await;
    db.check_ready().await.unwrap();
}

/// A process that only reads would read old rows for as long as its connections live.
#[tokio::test]
async fn a_connection_that_only_reads_leaves_the_standby_too() {
    let servers = failover().await;
    let db = tests::servers::connect(&servers.url());
    let readers = StatementPool::by_keys(db.clone());
    let setting = async || {
        let shown = readers.run(async |db| {
            let shown = sqlx::query_scalar("show transaction_read_only");
            shown.fetch_one(db).await
        });
        let shown: Result<String, sqlx::Error> = shown.await;
        shown.ok()
    };
    servers.lose_primary();
    eventually(OUTAGE_MAX, "the standby is read", || async {
        (setting().await? == "on").then_some(())
    })
    .await;
    servers.find_primary();
    eventually(RECOVERY_MAX, "the primary is read", || async {
        // Every process writes at least once a second: housekeeping, heartbeats.
        let write = "update event_cluster set xact_offset = xact_offset where false";
        drop(sqlx::query(write).execute(&db).await);
        (setting().await? == "off").then_some(())
    })
    .await;
}
