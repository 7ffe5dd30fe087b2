use sqlx::PgConnection;

use super::{Lease, QueueError};
use crate::JobId;

/// What a worker writes of a job that it holds.
pub(super) trait Outcome: Clone {
    fn lease(&self) -> Lease;
}

impl Outcome for Lease {
    fn lease(&self) -> Lease {
        *self
    }
}

impl<T: Clone> Outcome for (Lease, T) {
    fn lease(&self) -> Lease {
        self.0
    }
}

/// Writes outcomes, and those that nothing came of once more: a statement that had to wait for a row, as for a cancel, does
/// not see what became of it, and leaves it alone. The next one sees it. Of whose lease is gone nothing comes then either.
pub(super) async fn write<T: Outcome>(
    db: &mut PgConnection,
    outcomes: &[T],
    statement: impl AsyncFn(&mut PgConnection, &[T]) -> Result<Vec<JobId>, QueueError>,
) -> Result<Vec<JobId>, QueueError> {
    let mut written = statement(db, outcomes).await?;
    if written.len() < outcomes.len() {
        let left = outcomes.iter();
        let left = left.filter(|outcome| !written.contains(&outcome.lease().job_id));
        let left: Vec<_> = left.cloned().collect();
        written.extend(Box::pin(statement(db, &left)).await?);
    }
    Ok(written)
}
