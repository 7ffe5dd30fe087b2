use sqlx::PgPool;

use super::QueueError;
use crate::{JobId, JobState};

/// Result of [`cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The job had not started; it has ended as `canceled`.
    AtOnce,
    /// A worker runs the job, and was asked to stop.
    Requested,
    /// The job ended before, in this state.
    Terminal(JobState),
    /// The owner has no such job.
    NotFound,
}

/// Cancels a job of `owner`, of any owner if `None`. Idempotent.
///
/// # Errors
/// Postgres is away.
pub async fn cancel(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<CancelOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select cancel_job($1, $2) as "outcome!""#,
        job.uuid(),
        owner
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "canceled" => CancelOutcome::AtOnce,
        "requested" => CancelOutcome::Requested,
        "was canceled" => CancelOutcome::Terminal(JobState::Canceled),
        "was succeeded" => CancelOutcome::Terminal(JobState::Succeeded),
        "was failed" => CancelOutcome::Terminal(JobState::Failed),
        "was expired" => CancelOutcome::Terminal(JobState::Expired),
        "not found" => CancelOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
