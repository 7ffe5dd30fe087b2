use sqlx::{PgConnection, PgPool};

use super::{Lease, QueueError, columns, fenced};
use crate::{JobId, Problem};

/// Ends jobs as `failed`: the same image would fail again. Answers those that the leases still held.
///
/// # Errors
/// Postgres is away.
pub async fn fail(db: &PgPool, faults: &[(Lease, Problem)]) -> Result<Vec<JobId>, QueueError> {
    fail_on(&mut *Box::pin(db.acquire()).await?, faults).await
}

/// The same on a connection of the caller's.
///
/// # Errors
/// Postgres is away.
pub async fn fail_on(
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
    let ids = sqlx::query_file_scalar!("src/queue/fail.sql", &ids, &lease_nos, &problems);
    Ok(ids
        .fetch_all(db)
        .await?
        .into_iter()
        .map(JobId::from)
        .collect())
}
