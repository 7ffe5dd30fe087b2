use sqlx::PgPool;

use super::QueueError;
use crate::{Problem, ProblemCode};

/// Ends waiting jobs whose deadline has passed. Answers how many.
///
/// # Errors
/// Postgres is away.
pub async fn expire(db: &PgPool) -> Result<u64, QueueError> {
    let late = Problem::new(
        ProblemCode::DeadlineExceeded,
        "no worker could begin before the job's deadline",
    );
    let rows = sqlx::query_file!("src/queue/expire.sql", late.to_json());
    Ok(rows.fetch_all(db).await?.len() as u64)
}
