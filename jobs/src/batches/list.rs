use sqlx::PgExecutor;

use super::{Batch, batch::BatchRow};
use crate::{BatchId, queue::QueueError};

/// Batches of `owner`, newest first, older than `before`.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: impl PgExecutor<'_>,
    owner: &str,
    before: Option<BatchId>,
    limit: u16,
) -> Result<Vec<Batch>, QueueError> {
    let rows = sqlx::query_file_as!(
        BatchRow,
        "src/batches/list.sql",
        owner,
        before.map(BatchId::uuid),
        i64::from(limit)
    );
    let rows = rows.fetch_all(db).await?;
    Ok(rows.into_iter().map(Batch::from).collect())
}
