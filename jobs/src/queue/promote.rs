use sqlx::PgPool;

use super::QueueError;

/// Queues scheduled jobs that are due. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn promote(db: &PgPool) -> Result<u64, QueueError> {
    let rows = sqlx::query_file!("src/queue/promote.sql");
    Ok(rows.fetch_all(db).await?.len() as u64)
}
