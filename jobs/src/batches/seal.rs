use sqlx::{PgExecutor, PgPool};

use super::Writer;
use crate::{BatchId, queue::QueueError};

/// Says that the last line was taken. `false`: the batch is another upload's now, or was sealed before.
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

/// Seals batches whose uploader nobody heard of for so long: what was committed of them runs. An upload under the same
/// idempotency key opens them again.
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
