//! Changes times in the database, so that no test sleeps.

use jobs::{JobId, WorkerId};
use sqlx::{AssertSqlSafe, PgPool};

async fn update_job(db: &PgPool, statement: &str, id: JobId) {
    let done = sqlx::query(AssertSqlSafe(statement)).bind(id.uuid());
    assert_eq!(
        done.execute(db).await.unwrap().rows_affected(),
        1,
        "{id} is not in the state that the statement expects: {statement}"
    );
}

/// Lets the lease of a worker expire.
pub async fn lease_ran_out(db: &PgPool, worker: WorkerId) {
    sqlx::query(
        "update workers set lease_until = now() - interval '1 second' where worker_id = $1",
    )
    .bind(worker.0)
    .execute(db)
    .await
    .unwrap();
}

/// Lets the running attempt exceed its timeout.
pub async fn attempt_ran_too_long(db: &PgPool, job: JobId) {
    let ago = "update live_jobs set attempt_deadline_at = now() - interval '1 second' where job_id = $1 and state = 'running'";
    update_job(db, ago, job).await;
}

/// Lets the client's deadline of a job pass.
pub async fn deadline_passed(db: &PgPool, job: JobId) {
    update_job(
        db,
        "update live_jobs set deadline_at = now() - interval '1 second' where job_id = $1",
        job,
    )
    .await;
}

/// Makes a scheduled job due.
pub async fn came_due(db: &PgPool, job: JobId) {
    let ago = "update live_jobs set run_at = now() - interval '1 second' where job_id = $1 and state = 'scheduled'";
    update_job(db, ago, job).await;
}

/// Makes every pending delivery due, also those that a sender holds.
pub async fn webhooks_came_due(db: &PgPool) {
    sqlx::query("update webhook_deliveries set next_attempt_at = now() where status = 'pending'")
        .execute(db)
        .await
        .unwrap();
}

/// Moves a scheduled job an hour ahead, so that it does not become due during the test.
pub async fn stays_scheduled(db: &PgPool, job: JobId) {
    let ahead = "update live_jobs set run_at = now() + interval '1 hour' where job_id = $1 and state = 'scheduled'";
    update_job(db, ahead, job).await;
}
