use sqlx::{PgConnection, PgPool};

use super::{Lease, QueueError, columns, fenced};
use crate::JobId;

/// Puts jobs back in their place, nothing charged; ends those whose cancel was asked for. Answers those that the leases
/// still held.
///
/// # Errors
/// Postgres is away: the jobs come back when the worker's lease runs out.
pub async fn release(db: &PgPool, leases: &[Lease]) -> Result<Vec<JobId>, QueueError> {
    release_on(&mut *Box::pin(db.acquire()).await?, leases).await
}

/// The same on a connection of the caller's.
///
/// # Errors
/// Postgres is away.
pub async fn release_on(db: &mut PgConnection, leases: &[Lease]) -> Result<Vec<JobId>, QueueError> {
    fenced::write(db, leases, statement).await
}

async fn statement(db: &mut PgConnection, leases: &[Lease]) -> Result<Vec<JobId>, QueueError> {
    let (ids, lease_nos) = columns(leases);
    let ids = sqlx::query_file_scalar!("src/queue/release.sql", &ids, &lease_nos);
    Ok(ids
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
