//! Pause and resume of models, drain of workers. `ops.audit` records each action with its `actor`.

use sqlx::PgPool;

use super::QueueError;
use crate::WorkerId;

/// Result of [`drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// The worker claims no more jobs, finishes those it has, and ends.
    Draining,
    /// The worker ended or was lost before.
    Gone,
    /// No such worker ever existed.
    NotFound,
}

/// Stops the claims of a model's jobs. Submits are still taken, and running jobs finish. Returns whether the model exists.
///
/// `actor` is the name for the audit: `api key 1f3a…`.
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

/// Allows claims of a model's jobs again. Returns whether the model exists.
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

/// Requests that a worker finishes its jobs and ends. Idempotent.
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
