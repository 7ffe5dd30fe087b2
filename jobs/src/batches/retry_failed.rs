use sqlx::PgPool;

use crate::{BatchId, queue::QueueError};

/// Queues every failed job of a batch again whose input is still there: each as [`crate::queue::resubmit`] does it. Answers
/// how many.
///
/// # Errors
/// Postgres is away; what was queued until then stays so.
pub async fn retry_failed(db: &PgPool, batch: BatchId, owner: &str) -> Result<i64, QueueError> {
    let (mut after, mut queued) = (0, 0);
    loop {
        let tried = sqlx::query_file!("src/batches/retry_failed.sql", batch.uuid(), owner, after);
        let tried = tried.fetch_one(db).await?;
        queued += tried.queued;
        match tried.last {
            Some(last) => after = last,
            None => return Ok(queued),
        }
    }
}
