//! Settles attempts of one outcome. [`queue::settle`] takes all outcomes at once.

use jobs::{
    JobId, Problem,
    queue::{self, Lease, Outcome, QueueError, Settlement},
};
use sqlx::PgPool;

/// The settled jobs: those whose lease was still valid.
type Settled = Result<Vec<JobId>, QueueError>;

pub async fn complete(db: &PgPool, done: &[Settlement]) -> Settled {
    queue::settle(db, done).await
}

pub async fn fail(db: &PgPool, faults: &[(Lease, Problem)]) -> Settled {
    settle_faults(db, faults, Outcome::Failed).await
}

pub async fn retry(db: &PgPool, faults: &[(Lease, Problem)]) -> Settled {
    settle_faults(db, faults, Outcome::Retried).await
}

pub async fn release(db: &PgPool, leases: &[Lease]) -> Settled {
    queue::release(db, leases).await
}

async fn settle_faults(
    db: &PgPool,
    faults: &[(Lease, Problem)],
    outcome: impl Fn(Problem) -> Outcome,
) -> Settled {
    let settlements = faults.iter().map(|(lease, problem)| Settlement {
        lease: *lease,
        outcome: outcome(problem.clone()),
    });
    queue::settle(db, &settlements.collect::<Vec<_>>()).await
}
