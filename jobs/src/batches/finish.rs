use sqlx::PgExecutor;

use crate::{BatchId, queue::QueueError};

/// Ends some of the sealed batches that have no live jobs. Call it again until it returns none.
///
/// # Errors
/// Postgres is away.
pub async fn finish_due(db: impl PgExecutor<'_>) -> Result<Vec<BatchId>, QueueError> {
    let ended = sqlx::query_scalar!(
        "with due as materialized (
             select g.batch_id from batches g
             where g.finished_at is null and g.sealed_at is not null
               and not exists (select from live_jobs j where j.batch_id = g.batch_id)
             order by g.batch_id limit 100
         )
         select batch_id as \"batch_id!\" from due where finish_batch(batch_id)"
    );
    let ended = ended.fetch_all(db).await?;
    Ok(ended.into_iter().map(Into::into).collect())
}

/// Ends this batch if that is due. Returns whether it did.
pub(super) async fn finish(db: impl PgExecutor<'_>, batch: BatchId) -> Result<bool, QueueError> {
    let ended = sqlx::query_scalar!(r#"select finish_batch($1) as "ended!""#, batch.uuid());
    Ok(ended.fetch_one(db).await?)
}
