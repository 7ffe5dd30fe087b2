use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::{Lease, QueueError, columns, fenced};
use crate::JobId;

/// A prediction and how it came about.
#[derive(Debug, Clone)]
pub struct Completion {
    pub lease: Lease,
    pub result: Value,
    /// Stage to milliseconds: `fetch`, `decode`, `preprocess`, `batch_wait`, `infer`, `postprocess`, `complete`.
    pub timings: Value,
    /// Images that shared the forward pass, and this one's place among them, from 0.
    pub forward_batch_size: i16,
    pub forward_batch_position: i16,
}

impl fenced::Outcome for Completion {
    fn lease(&self) -> Lease {
        self.lease
    }
}

/// Ends jobs as `succeeded`, or as `canceled` where that was asked for. Answers those that the leases still held: the
/// results of the others are dropped.
///
/// # Errors
/// Postgres is away.
pub async fn complete(db: &PgPool, done: &[Completion]) -> Result<Vec<JobId>, QueueError> {
    complete_on(&mut *Box::pin(db.acquire()).await?, done).await
}

/// The same on a connection of the caller's.
///
/// # Errors
/// Postgres is away.
pub async fn complete_on(
    db: &mut PgConnection,
    done: &[Completion],
) -> Result<Vec<JobId>, QueueError> {
    fenced::write(db, done, statement).await
}

async fn statement(db: &mut PgConnection, done: &[Completion]) -> Result<Vec<JobId>, QueueError> {
    let (ids, lease_nos) = columns(done.iter().map(|done| &done.lease));
    let results: Vec<_> = done.iter().map(|done| &done.result).collect();
    let timings: Vec<_> = done.iter().map(|done| &done.timings).collect();
    let sizes: Vec<_> = done.iter().map(|done| done.forward_batch_size).collect();
    let positions: Vec<_> = done
        .iter()
        .map(|done| done.forward_batch_position)
        .collect();
    let ids = sqlx::query_file_scalar!(
        "src/queue/complete.sql",
        &ids,
        &lease_nos,
        &results as &[&Value],
        &timings as &[&Value],
        &sizes,
        &positions
    );
    Ok(ids
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
