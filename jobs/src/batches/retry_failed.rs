use sqlx::PgPool;

use crate::{BatchId, queue::QueueError};

/// Queues every failed job of a batch again whose input still exists, as [`crate::queue::retry`] does. Returns how many. With
/// `on_current_version` the jobs run on the version that their alias means now; jobs whose parameters do not fit it stay failed.
///
/// # Errors
/// Postgres is away; the jobs that were queued until then stay queued.
pub async fn retry_failed(
    db: &PgPool,
    batch: BatchId,
    owner: &str,
    on_current_version: bool,
) -> Result<i64, QueueError> {
    let (mut after, mut queued) = (0, 0);
    loop {
        let retried = sqlx::query_file!(
            "src/batches/retry_failed.sql",
            batch.uuid(),
            owner,
            after,
            on_current_version
        );
        let retried = retried.fetch_one(db).await?;
        queued += retried.queued;
        match retried.last {
            Some(last) => after = last,
            None => return Ok(queued),
        }
    }
}
