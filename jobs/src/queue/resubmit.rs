use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Result of [`resubmit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResubmitOutcome {
    /// The job is queued again, at the end of its owner's lane.
    Queued,
    /// The job waits or runs.
    NotTerminal,
    /// The job succeeded: its result is final.
    Succeeded,
    /// The job's data or image is deleted.
    InputPurged,
    /// The owner has no such job.
    NotFound,
}

/// Queues a `failed`, `canceled` or `expired` job of `owner` again, of any owner if `None`. The job keeps its id and history,
/// gets a new budget of charged attempts, and one more interruption if those were used up. A past deadline is removed.
///
/// The database wakes workers and waiting clients.
///
/// # Errors
/// Postgres is away.
pub async fn resubmit(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<ResubmitOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select retry_job($1, $2) as "outcome!""#,
        job.uuid(),
        owner
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "queued" => ResubmitOutcome::Queued,
        "not terminal" => ResubmitOutcome::NotTerminal,
        "succeeded" => ResubmitOutcome::Succeeded,
        "input purged" => ResubmitOutcome::InputPurged,
        "not found" => ResubmitOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
