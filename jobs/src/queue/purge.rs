use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// What came of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeOutcome {
    /// Its data is gone, now or since before; the row stays as a tombstone.
    Done,
    /// It still waits or runs: cancel it first.
    NotTerminal,
    /// The owner has no such job.
    NotFound,
}

/// Deletes what a finished job of `owner` was about, of anyone's if `None`: result, parameters, metadata and the words of
/// its problems. Its image goes once no other job needs it. Repeating is fine.
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
