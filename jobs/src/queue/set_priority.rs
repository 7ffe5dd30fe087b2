use sqlx::PgPool;

use super::QueueError;
use crate::{JobId, JobState};

/// Result of [`set_priority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetPriorityOutcome {
    /// The job has the priority. Unless it had it before, it is now the last one of its owner's lane.
    Set,
    /// A worker runs the job already.
    Running,
    /// The job ended before, in this state.
    Terminal(JobState),
    /// No such job exists.
    NotFound,
}

/// Moves a waiting job of any owner to another priority, from -100 to 100.
///
/// # Errors
/// Postgres is away, or refuses the priority.
pub async fn set_priority(
    db: &PgPool,
    job: JobId,
    priority: i16,
) -> Result<SetPriorityOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select set_job_priority($1, $2) as "outcome!""#,
        job.uuid(),
        i32::from(priority)
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "set" => SetPriorityOutcome::Set,
        "running" => SetPriorityOutcome::Running,
        "was canceled" => SetPriorityOutcome::Terminal(JobState::Canceled),
        "was succeeded" => SetPriorityOutcome::Terminal(JobState::Succeeded),
        "was failed" => SetPriorityOutcome::Terminal(JobState::Failed),
        "was expired" => SetPriorityOutcome::Terminal(JobState::Expired),
        "not found" => SetPriorityOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
