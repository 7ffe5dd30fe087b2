use sqlx::PgPool;

use super::{Lease, QueueError};
use crate::{JobId, WorkerId};

/// What a worker learns when it renews its lease.
#[derive(Debug)]
pub struct Heartbeat {
    /// An operator asked this worker to finish and leave.
    pub draining: bool,
    /// Held jobs whose clients want them canceled: release them, which ends them.
    pub canceled: Vec<JobId>,
    /// Every job that the worker holds; work on any other is for nothing.
    pub held: Vec<Lease>,
}

/// Renews the lease of a worker and of all its jobs, in one row.
///
/// # Errors
/// [`QueueError::LeaseLost`]: it ran out before; stop all work and register anew.
pub async fn heartbeat(
    db: &PgPool,
    worker: WorkerId,
    lease_seconds: f64,
) -> Result<Heartbeat, QueueError> {
    let row = sqlx::query_file!("src/queue/heartbeat.sql", worker.0, lease_seconds);
    let row = row.fetch_optional(db).await?.ok_or(QueueError::LeaseLost)?;
    Ok(Heartbeat {
        draining: row.draining,
        canceled: row.canceled.into_iter().map(JobId::from).collect(),
        held: std::iter::zip(row.held, row.lease_nos)
            .map(|(job_id, lease_no)| Lease {
                job_id: job_id.into(),
                lease_no: lease_no.into(),
            })
            .collect(),
    })
}
