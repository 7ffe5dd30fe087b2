use sqlx::PgPool;

use super::QueueError;

/// Purges some of the jobs that were kept for as long as they asked; call again until none is left. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn purge_due(db: &PgPool) -> Result<u64, QueueError> {
    let purged = sqlx::query_file_scalar!("src/queue/purge_due.sql");
    Ok(purged.fetch_one(db).await?.cast_unsigned())
}
