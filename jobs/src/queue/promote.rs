use sqlx::PgExecutor;

use super::QueueError;
use crate::JobId;

/// Queues scheduled jobs that are due. Returns which.
///
/// # Errors
/// Postgres is away.
pub async fn promote(db: impl PgExecutor<'_>) -> Result<Vec<JobId>, QueueError> {
    let rows = sqlx::query_file_scalar!("src/queue/promote.sql");
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
