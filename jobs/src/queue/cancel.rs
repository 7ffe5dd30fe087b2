use sqlx::PgPool;

use super::QueueError;
use crate::{JobId, JobState};

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not begun, and never will.
    AtOnce,
    /// Its worker was asked to let go.
    Requested,
    /// It had ended before, in this state.
    Terminal(JobState),
    /// The owner has no such job.
    NotFound,
}

/// Cancels a job of `owner`; of anyone if `None`. Repeating is fine.
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
