use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// What came of a retry by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// It is queued again, at the end of its owner's lane.
    Queued,
    /// It still waits or runs: there is nothing to repeat yet.
    NotTerminal,
    /// It succeeded: its result is final.
    Succeeded,
    /// What it was about is deleted.
    InputPurged,
    /// The owner has no such job.
    NotFound,
}

/// Queues a `failed`, `canceled` or `expired` job of `owner` again, of anyone if `None`: same id, history kept, a new budget
/// of charged attempts, and one more interruption where those were used up. A deadline that is past is dropped.
///
/// Workers and waiting clients are woken by the database.
///
/// # Errors
/// Postgres is away.
pub async fn retry(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<RetryOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select retry_job($1, $2) as "outcome!""#,
        job.uuid(),
        owner
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "queued" => RetryOutcome::Queued,
        "not terminal" => RetryOutcome::NotTerminal,
        "succeeded" => RetryOutcome::Succeeded,
        "input purged" => RetryOutcome::InputPurged,
        "not found" => RetryOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
