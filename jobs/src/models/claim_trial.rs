use sqlx::PgPool;

use crate::{LeaseNo, WorkerId};

/// The right of a worker to try one version. The verdict lands only while both fields match the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub version_id: i64,
    pub lease_no: LeaseNo,
}

/// Longest time of a trial. A worker that lives and has no verdict by then loses the trial.
const TRIAL_SECONDS_MAX: f64 = 900.0;

/// Leases the oldest validating version that no worker tries and that `worker` may run; `None` if there is none.
///
/// The lease lasts as long as that of the worker. `passed_over`: versions that this worker could not decide a moment ago.
///
/// # Errors
/// Postgres is away. A trial that may have been claimed comes back when the worker's lease runs out, or after a quarter of an
/// hour.
pub async fn claim_trial(
    db: &PgPool,
    worker: WorkerId,
    passed_over: &[i64],
) -> Result<Option<Trial>, sqlx::Error> {
    let row = sqlx::query_file!(
        "src/models/claim_trial.sql",
        worker.0,
        passed_over,
        TRIAL_SECONDS_MAX
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Trial {
        version_id: row.model_version_id,
        lease_no: row.trial_lease_no.into(),
    }))
}
