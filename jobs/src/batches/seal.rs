use sqlx::{PgExecutor, PgPool};

use super::Writer;
use crate::{BatchId, queue::QueueError};

/// Marks a batch as complete: no line follows. `false`: the batch belongs to another upload now, or was sealed before.
///
/// # Errors
/// Postgres is away.
pub async fn seal(db: &PgPool, writer: Writer) -> Result<bool, QueueError> {
    let sealed = sqlx::query!(
        "update batches set sealed_at = now(), heard_at = now() where batch_id = $1 and upload_no = $2 and sealed_at is null",
        writer.batch.uuid(),
        writer.upload_no
    );
    Ok(sealed.execute(db).await?.rows_affected() > 0)
}

/// Seals the batches whose upload appended nothing for `abandoned_seconds`. Their committed jobs run. A repeated upload with
/// the same idempotency key opens them again.
///
/// # Errors
/// Postgres is away.
pub async fn seal_abandoned(
    db: impl PgExecutor<'_>,
    abandoned_seconds: f64,
) -> Result<Vec<BatchId>, QueueError> {
    let sealed = sqlx::query_file_scalar!("src/batches/seal_abandoned.sql", abandoned_seconds);
    let sealed = sealed.fetch_all(db).await?;
    Ok(sealed.into_iter().map(Into::into).collect())
}
