use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Result of [`retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The job is queued again, at the end of its owner's lane.
    Queued,
    /// The job waits or runs.
    NotTerminal,
    /// The job succeeded: its result is final.
    Succeeded,
    /// The job's data or image is deleted.
    InputPurged,
    /// The alias of the job means no version now. Only of a retry on the current version.
    NoVersion,
    /// The current version does not take the parameters of the job.
    ParamsDoNotFit,
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
pub async fn retry(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<RetryOutcome, QueueError> {
    retry_job(db, job, owner, false).await
}

/// As [`retry`], on the version that the job's alias means now: the version of the job may be what made it fail. A job that named
/// a version or a digest takes the version of the alias `default`.
///
/// # Errors
/// Postgres is away.
pub async fn retry_on_current_version(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<RetryOutcome, QueueError> {
    retry_job(db, job, owner, true).await
}

async fn retry_job(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
    on_current_version: bool,
) -> Result<RetryOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select retry_job($1, $2, $3) as "outcome!""#,
        job.uuid(),
        owner,
        on_current_version
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "queued" => RetryOutcome::Queued,
        "not terminal" => RetryOutcome::NotTerminal,
        "succeeded" => RetryOutcome::Succeeded,
        "input purged" => RetryOutcome::InputPurged,
        "no version" => RetryOutcome::NoVersion,
        "params do not fit" => RetryOutcome::ParamsDoNotFit,
        "not found" => RetryOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
