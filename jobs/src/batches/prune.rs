use sqlx::PgPool;

use crate::queue::QueueError;

/// Removes some of the batches that ended at least `tombstone_seconds` ago and whose jobs have no data left. Call it again
/// until it returns 0. Returns how many were removed.
///
/// # Errors
/// Postgres is away.
pub async fn prune(db: &PgPool, tombstone_seconds: f64) -> Result<u64, QueueError> {
    let pruned = sqlx::query_file!("src/batches/prune.sql", tombstone_seconds);
    Ok(pruned.execute(db).await?.rows_affected())
}
