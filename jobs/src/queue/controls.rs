//! Pause and resume of models, drain of workers. Each act stands in `ops.audit`, under the name of its `actor`.

use sqlx::PgPool;

use super::QueueError;
use crate::WorkerId;

/// What came of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// It claims nothing more, finishes what it has, and leaves.
    Draining,
    /// It had left, or was lost, before.
    Gone,
    /// There never was such a worker.
    NotFound,
}

/// Stops the claiming of a model's jobs; submits go on, and what runs ends. Answers whether there is such a model.
///
/// `actor`: who does it, `api key 1f3a…`.
///
/// # Errors
/// Postgres is away.
pub async fn pause(
    db: &PgPool,
    model: &str,
    why: Option<&str>,
    actor: &str,
) -> Result<bool, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('pause', $1, jsonb_build_object('why', $2::text), pause_model($1, $2), $3) as "outcome!""#,
        model,
        why,
        actor
    );
    Ok(outcome.fetch_one(db).await? == "paused")
}

/// Lets a model's jobs be claimed again. Answers whether there is such a model.
///
/// # Errors
/// Postgres is away.
pub async fn resume(db: &PgPool, model: &str, actor: &str) -> Result<bool, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('resume', $1, '{}', resume_model($1), $2) as "outcome!""#,
        model,
        actor
    );
    Ok(outcome.fetch_one(db).await? == "resumed")
}

/// Asks a worker to finish and leave. Repeating is fine.
///
/// # Errors
/// Postgres is away.
pub async fn drain(db: &PgPool, worker: WorkerId, actor: &str) -> Result<DrainOutcome, QueueError> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('drain', $1::bigint::text, '{}', drain_worker($1), $2) as "outcome!""#,
        worker.0,
        actor
    );
    let outcome = outcome.fetch_one(db).await?;
    Ok(match outcome.as_str() {
        "draining" => DrainOutcome::Draining,
        "gone" => DrainOutcome::Gone,
        "not found" => DrainOutcome::NotFound,
        other => return Err(QueueError::unknown_outcome(other)),
    })
}
