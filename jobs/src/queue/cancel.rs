use sqlx::PgPool;

use super::QueueError;
use crate::{JobId, JobState};

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canceled {
    /// It had not begun, and never will.
    AtOnce,
    /// Its worker was asked to let go.
    Requested,
    /// It had ended before, in this state.
    Terminal(JobState),
    /// The owner has no such job.
    NotFound,
}

/// A statement sees one moment: while it waits for a claim or a completion of the same job, the row may move to where that
/// moment does not show it. A job moves seldom enough for a few more looks.
const LOOKS: usize = 4;

/// Cancels a job of `owner`; of anyone if `None`. Repeating is fine.
///
/// # Errors
/// Postgres is away.
pub async fn cancel(db: &PgPool, job: JobId, owner: Option<&str>) -> Result<Canceled, QueueError> {
    for _ in 0..LOOKS {
        let outcome = sqlx::query_file_scalar!("src/queue/cancel.sql", job.uuid(), owner);
        let outcome = outcome.fetch_optional(db).await?;
        return Ok(match outcome.as_deref() {
            Some("canceled") => Canceled::AtOnce,
            Some("requested") => Canceled::Requested,
            Some("was canceled") => Canceled::Terminal(JobState::Canceled),
            Some("was succeeded") => Canceled::Terminal(JobState::Succeeded),
            Some("was failed") => Canceled::Terminal(JobState::Failed),
            Some("was expired") => Canceled::Terminal(JobState::Expired),
            _ => continue,
        });
    }
    Ok(Canceled::NotFound)
}
