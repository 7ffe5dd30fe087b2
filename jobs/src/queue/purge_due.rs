use sqlx::PgPool;

use super::QueueError;

/// Purges some of the jobs whose retention has ended. Call it again until it returns 0. Returns how many were purged.
///
/// # Errors
/// Postgres is away.
pub async fn purge_due(db: &PgPool) -> Result<u64, QueueError> {
    let purged = sqlx::query_file_scalar!("src/queue/purge_due.sql");
    Ok(purged.fetch_one(db).await?.cast_unsigned())
}
