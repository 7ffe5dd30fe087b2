use sqlx::PgPool;

use super::QueueError;
use crate::{JobId, Problem, ProblemCode};

/// Takes jobs whose attempt ran longer than it may. Answers which.
///
/// # Errors
/// Postgres is away.
pub async fn time_out(db: &PgPool) -> Result<Vec<JobId>, QueueError> {
    let late = Problem::new(
        ProblemCode::AttemptTimedOut,
        "the attempt ran longer than its job allows",
    );
    let rows = sqlx::query_file_scalar!("src/queue/time_out.sql", late.to_json());
    Ok(rows
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
