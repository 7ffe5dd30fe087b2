use sqlx::PgExecutor;

use super::QueueError;
use crate::{JobId, Problem, ProblemCode};

/// Takes jobs whose attempt ran longer than it may, or past the job's own deadline. Answers which.
///
/// # Errors
/// Postgres is away.
pub async fn time_out(db: impl PgExecutor<'_>) -> Result<Vec<JobId>, QueueError> {
    let late = Problem::new(
        ProblemCode::AttemptTimedOut,
        "the attempt ran longer than its job allows",
    );
    let useless = Problem::new(
        ProblemCode::DeadlineExceeded,
        "the deadline of the job passed while a worker was at it",
    );
    let rows =
        sqlx::query_file_scalar!("src/queue/time_out.sql", late.to_json(), useless.to_json());
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
