use sqlx::PgPool;

use super::{Lease, QueueError};
use crate::{JobId, WorkerId};

/// The answer to a worker that renews its lease.
#[derive(Debug)]
pub struct Heartbeat {
    /// An operator requested that this worker drains.
    pub draining: bool,
    /// Held jobs whose cancel was requested. A release ends them.
    pub canceled: Vec<JobId>,
    /// Every job that the worker holds. Work on any other job is useless.
    pub held: Vec<Lease>,
}

/// Renews the lease of a worker, and with it the leases of all its jobs. Writes one row.
///
/// # Errors
/// [`QueueError::LeaseLost`]: the lease ran out before. Stop all work and register anew.
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
