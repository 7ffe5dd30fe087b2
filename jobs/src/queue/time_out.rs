use sqlx::PgPool;

use super::QueueError;
use crate::{Problem, ProblemCode};

/// Takes jobs whose attempt ran longer than it may. Answers how many it took.
///
/// # Errors
/// Postgres is away.
pub async fn time_out(db: &PgPool) -> Result<u64, QueueError> {
    let late = Problem::new(
        ProblemCode::AttemptTimedOut,
        "the attempt ran longer than its job allows",
    );
    let rows = sqlx::query_file!("src/queue/time_out.sql", late.to_json());
    Ok(rows.fetch_all(db).await?.len() as u64)
}
