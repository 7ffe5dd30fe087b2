use sqlx::PgPool;

use super::QueueError;
use crate::WorkerId;

/// Stores what is wrong with the bucket of a worker; `None` if nothing is. For operators only: no decision depends on it.
///
/// # Errors
/// Postgres is away.
pub async fn report_store_fault(
    db: &PgPool,
    worker: WorkerId,
    fault: Option<&str>,
) -> Result<(), QueueError> {
    sqlx::query!(
        "update workers set store_fault = $2 where worker_id = $1 and ended_at is null",
        worker.0,
        fault
    )
    .execute(db)
    .await?;
    Ok(())
}
