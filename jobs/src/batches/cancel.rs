use sqlx::{PgExecutor, PgPool};

use crate::{BatchId, queue::QueueError};

/// Requests the cancel of a batch of `owner`: it takes no more lines, and [`cancel_some`] cancels its jobs. `false`: no such
/// batch exists, or it has ended.
///
/// # Errors
/// Postgres is away.
pub async fn cancel(db: &PgPool, batch: BatchId, owner: &str) -> Result<bool, QueueError> {
    let requested = sqlx::query!(
        "update batches set cancel_requested_at = coalesce(cancel_requested_at, now())
         where batch_id = $1 and owner = $2 and finished_at is null",
        batch.uuid(),
        owner
    );
    Ok(requested.execute(db).await?.rows_affected() > 0)
}

/// Cancels some jobs of a batch whose cancel was requested, of all such batches if `None`. Call it again until it returns 0.
/// Returns how many jobs it processed. It locks them in the order of their ids, as `settle` does.
///
/// # Errors
/// Postgres is away.
pub async fn cancel_some(
    db: impl PgExecutor<'_>,
    batch: Option<BatchId>,
) -> Result<i64, QueueError> {
    let canceled = sqlx::query_scalar!(
        r#"with live as materialized (
               select j.job_id from batches g join live_jobs j using (batch_id)
               where g.cancel_requested_at is not null and g.finished_at is null and ($1::uuid is null or g.batch_id = $1)
                 and not j.cancel_requested
               limit 500
           )
           select count(cancel_job(job_id, null)) as "canceled!" from (select job_id from live order by job_id) as in_order"#,
        batch.map(BatchId::uuid)
    );
    Ok(canceled.fetch_one(db).await?)
}
