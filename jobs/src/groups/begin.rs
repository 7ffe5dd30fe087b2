use serde_json::{Map, Value};
use sqlx::PgPool;

use super::Writer;
use crate::{GroupId, queue::QueueError};

/// What came of the wish to begin a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    Yes(Writer),
    /// The owner has used the idempotency key before: nothing was made.
    KeyTaken,
}

/// Makes an empty group of `owner`, and lets the idempotency key stand for it.
///
/// # Errors
/// Postgres is away.
pub async fn begin(
    db: &PgPool,
    owner: &str,
    metadata: &Map<String, Value>,
    idempotency_key: Option<&str>,
) -> Result<Begun, QueueError> {
    let group = GroupId::now();
    let made = sqlx::query_file!(
        "src/groups/begin.sql",
        group.uuid(),
        owner,
        Value::Object(metadata.clone()),
        idempotency_key
    );
    let made = made.fetch_optional(db).await?;
    Ok(made.map_or(Begun::KeyTaken, |row| {
        Begun::Yes(Writer {
            group,
            upload_no: row.upload_no,
        })
    }))
}
