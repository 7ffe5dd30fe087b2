use sqlx::PgPool;

use crate::queue::QueueError;

/// Removes some of the batches that ended so many seconds ago and of whose jobs no data is left; call again until none is
/// left. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn prune(db: &PgPool, tombstone_seconds: f64) -> Result<u64, QueueError> {
    let pruned = sqlx::query_file!("src/batches/prune.sql", tombstone_seconds);
    Ok(pruned.execute(db).await?.rows_affected())
}
