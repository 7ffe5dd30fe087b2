use sqlx::PgExecutor;

use super::QueueError;
use crate::{JobId, Problem, ProblemCode};

/// Ends waiting jobs whose deadline has passed. Answers which.
///
/// # Errors
/// Postgres is away.
pub async fn expire(db: impl PgExecutor<'_>) -> Result<Vec<JobId>, QueueError> {
    let late = Problem::new(
        ProblemCode::DeadlineExceeded,
        "no worker could begin before the job's deadline",
    );
    let rows = sqlx::query_file_scalar!("src/queue/expire.sql", late.to_json());
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
