use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Result of [`purge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeOutcome {
    /// The data is deleted, now or before; the row stays as a tombstone.
    Done,
    /// The job waits or runs: cancel it first.
    NotTerminal,
    /// The owner has no such job.
    NotFound,
}

/// Deletes the data of a finished job of `owner`, of any owner if `None`: result, parameters, metadata, and details of its
/// problems. The image is deleted once no other job needs it. Idempotent.
///
/// # Errors
/// Postgres is away.
pub async fn purge(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<PurgeOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select purge_job($1, $2) as "outcome!""#,
        job.uuid(),
        owner
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "purged" => PurgeOutcome::Done,
        "not terminal" => PurgeOutcome::NotTerminal,
        "not found" => PurgeOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
