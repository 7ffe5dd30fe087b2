use sqlx::{PgConnection, PgPool};

use super::{Lease, QueueError, columns, fenced};
use crate::{JobId, Problem};

/// Gives failed attempts another try after a back-off, or ends the jobs whose attempts are spent. Answers those that the
/// leases still held.
///
/// # Errors
/// Postgres is away.
pub async fn retry(db: &PgPool, faults: &[(Lease, Problem)]) -> Result<Vec<JobId>, QueueError> {
    retry_on(&mut *Box::pin(db.acquire()).await?, faults).await
}

/// The same on a connection of the caller's.
///
/// # Errors
/// Postgres is away.
pub async fn retry_on(
    db: &mut PgConnection,
    faults: &[(Lease, Problem)],
) -> Result<Vec<JobId>, QueueError> {
    fenced::write(db, faults, statement).await
}

async fn statement(
    db: &mut PgConnection,
    faults: &[(Lease, Problem)],
) -> Result<Vec<JobId>, QueueError> {
    let (ids, lease_nos) = columns(faults.iter().map(|(lease, _)| lease));
    let problems: Vec<_> = faults
        .iter()
        .map(|(_, problem)| problem.to_json())
        .collect();
    let ids = sqlx::query_file_scalar!("src/queue/retry.sql", &ids, &lease_nos, &problems);
    Ok(ids
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
