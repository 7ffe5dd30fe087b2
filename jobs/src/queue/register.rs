use sqlx::PgPool;

use super::QueueError;
use crate::WorkerId;

/// What a worker process registers about itself.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Name for people: `host-pid`, or one that the operator chose.
    pub name: String,
    /// `cpu AMD EPYC 9B45`, `cuda:0 NVIDIA L4`.
    pub device: String,
    pub build: String,
    /// Names of the models that it runs; empty for any.
    pub models: Vec<String>,
}

/// Begins a lease under a new worker id; ids are never reused.
///
/// # Errors
/// Postgres is away.
pub async fn register(
    db: &PgPool,
    worker: &Registration,
    lease_seconds: f64,
) -> Result<WorkerId, QueueError> {
    let Registration {
        name,
        device,
        build,
        models,
    } = worker;
    let id = sqlx::query_file_scalar!(
        "src/queue/register.sql",
        name,
        device,
        build,
        models,
        lease_seconds
    );
    Ok(WorkerId(id.fetch_one(db).await?))
}

/// Ends a worker's lease now. Jobs that it did not release before count as lost.
///
/// # Errors
/// Postgres is away: the lease runs out by itself.
pub async fn deregister(db: &PgPool, worker: WorkerId) -> Result<(), QueueError> {
    sqlx::query!(
        "update workers set ended_at = now() where worker_id = $1 and ended_at is null",
        worker.0
    )
    .execute(db)
    .await?;
    Ok(())
}
