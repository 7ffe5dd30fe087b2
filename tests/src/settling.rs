//! Settles attempts of one outcome: shorter to read in a test than [`queue::settle`], which takes every outcome at once.

use jobs::{
    JobId, Problem,
    queue::{self, Lease, Outcome, QueueError, Settlement},
};
use sqlx::PgExecutor;

/// The jobs that the leases still held.
type Settled = Result<Vec<JobId>, QueueError>;

pub async fn complete(db: impl PgExecutor<'_>, done: &[Settlement]) -> Settled {
    queue::settle(db, done).await
}

pub async fn fail(db: impl PgExecutor<'_>, faults: &[(Lease, Problem)]) -> Settled {
    settle_faults(db, faults, Outcome::Failed).await
}

pub async fn retry(db: impl PgExecutor<'_>, faults: &[(Lease, Problem)]) -> Settled {
    settle_faults(db, faults, Outcome::Retried).await
}

async fn settle_faults(
    db: impl PgExecutor<'_>,
    faults: &[(Lease, Problem)],
    outcome: impl Fn(Problem) -> Outcome,
) -> Settled {
    let settlements = faults.iter().map(|(lease, problem)| Settlement {
        lease: *lease,
        outcome: outcome(problem.clone()),
    });
    queue::settle(db, &settlements.collect::<Vec<_>>()).await
}
