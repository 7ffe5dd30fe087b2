use serde_json::{Map, Value};
use sqlx::PgPool;

use super::Writer;
use crate::{BatchId, queue::QueueError};

/// Result of [`begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    Yes(Writer),
    /// The owner used the idempotency key before: nothing was made.
    KeyTaken,
}

/// Makes an empty batch of `owner`, and binds the idempotency key to it.
///
/// # Errors
/// Postgres is away.
pub async fn begin(
    db: &PgPool,
    owner: &str,
    metadata: &Map<String, Value>,
    idempotency_key: Option<&str>,
) -> Result<BeginOutcome, QueueError> {
    let batch = BatchId::now();
    let made = sqlx::query_file!(
        "src/batches/begin.sql",
        batch.uuid(),
        owner,
        Value::Object(metadata.clone()),
        idempotency_key
    );
    let made = made.fetch_optional(db).await?;
    Ok(made.map_or(BeginOutcome::KeyTaken, |row| {
        BeginOutcome::Yes(Writer {
            batch,
            upload_no: row.upload_no,
        })
    }))
}
