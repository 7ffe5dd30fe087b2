//! Time moved in SQL, so that no test sleeps: each puts one of the database's clocks into the past or the future.

use jobs::{JobId, WorkerId};
use sqlx::{AssertSqlSafe, PgPool};

async fn moved(db: &PgPool, statement: &str, id: JobId) {
    let done = sqlx::query(AssertSqlSafe(statement)).bind(id.uuid());
    assert_eq!(
        done.execute(db).await.unwrap().rows_affected(),
        1,
        "{id} is not in the state that {statement:?} is about"
    );
}

/// The worker was not heard of for longer than its lease.
pub async fn lease_ran_out(db: &PgPool, worker: WorkerId) {
    sqlx::query(
        "update workers set lease_until = now() - interval '1 second' where worker_id = $1",
    )
    .bind(worker.0)
    .execute(db)
    .await
    .unwrap();
}

/// The running attempt has taken longer than it may.
pub async fn attempt_ran_too_long(db: &PgPool, job: JobId) {
    let ago = "update live_jobs set attempt_deadline_at = now() - interval '1 second' where job_id = $1 and state = 'running'";
    moved(db, ago, job).await;
}

/// The client's deadline has passed.
pub async fn deadline_passed(db: &PgPool, job: JobId) {
    moved(
        db,
        "update live_jobs set deadline_at = now() - interval '1 second' where job_id = $1",
        job,
    )
    .await;
}

/// What was planned for later is due.
pub async fn came_due(db: &PgPool, job: JobId) {
    let ago = "update live_jobs set run_at = now() - interval '1 second' where job_id = $1 and state = 'scheduled'";
    moved(db, ago, job).await;
}

/// Every webhook that waits for its next attempt, or whose sender holds it, is due now.
pub async fn webhooks_came_due(db: &PgPool) {
    sqlx::query("update webhook_deliveries set next_attempt_at = now() where status = 'pending'")
        .execute(db)
        .await
        .unwrap();
}

/// What is planned for later will not become due by itself within this test.
pub async fn stays_scheduled(db: &PgPool, job: JobId) {
    let ahead = "update live_jobs set run_at = now() + interval '1 hour' where job_id = $1 and state = 'scheduled'";
    moved(db, ahead, job).await;
}
