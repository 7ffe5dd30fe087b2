use sqlx::PgExecutor;

use super::QueueError;
use crate::{JobId, Problem, ProblemCode};

/// Brings back the jobs of vanished workers; ends those that lost too many. Answers which.
///
/// # Errors
/// Postgres is away.
pub async fn rescue(db: impl PgExecutor<'_>) -> Result<Vec<JobId>, QueueError> {
    let exhausted = Problem::new(
        ProblemCode::TooManyInterruptions,
        "every worker that tried this job vanished before it was done",
    );
    let lost = Problem::new(
        ProblemCode::WorkerLost,
        "the worker stopped renewing its lease",
    );
    let rows =
        sqlx::query_file_scalar!("src/queue/rescue.sql", exhausted.to_json(), lost.to_json());
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
