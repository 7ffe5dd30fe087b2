use sqlx::PgPool;

use crate::{BatchId, queue::QueueError};

/// Queues every failed job of a batch again whose input still exists, as [`crate::queue::retry`] does. Returns how many.
///
/// # Errors
/// Postgres is away; the jobs that were queued until then stay queued.
pub async fn retry_failed(db: &PgPool, batch: BatchId, owner: &str) -> Result<i64, QueueError> {
    let (mut after, mut queued) = (0, 0);
    loop {
        let retried = sqlx::query_file!("src/batches/retry_failed.sql", batch.uuid(), owner, after);
        let retried = retried.fetch_one(db).await?;
        queued += retried.queued;
        match retried.last {
            Some(last) => after = last,
            None => return Ok(queued),
        }
    }
}
