use sqlx::PgPool;

use super::QueueError;
use crate::{Problem, ProblemCode};

/// Brings back the jobs of vanished workers; ends those that lost too many. Answers how many it took.
///
/// # Errors
/// Postgres is away.
pub async fn rescue(db: &PgPool) -> Result<u64, QueueError> {
    let last = Problem::new(
        ProblemCode::TooManyInterruptions,
        "every worker that tried this job vanished before it was done",
    );
    let lost = Problem::new(
        ProblemCode::WorkerLost,
        "the worker stopped renewing its lease",
    );
    let rows = sqlx::query_file!("src/queue/rescue.sql", last.to_json(), lost.to_json());
    Ok(rows.fetch_all(db).await?.len() as u64)
}
