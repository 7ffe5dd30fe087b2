//! Claims on a connection of a pool. A worker claims on connections that it keeps ([`queue::claim`]).

use jobs::{
    WorkerId,
    queue::{self, Claim, LowWater, QueueError},
};
use sqlx::PgPool;

/// Claims like a worker that has just started.
pub async fn claim(
    db: &PgPool,
    worker: WorkerId,
    models: &[String],
    limit: u16,
) -> Result<Vec<Claim>, QueueError> {
    claim_with(db, worker, models, limit, &LowWater::default()).await
}

/// Claims like a worker that has low-water marks.
pub async fn claim_with(
    db: &PgPool,
    worker: WorkerId,
    models: &[String],
    limit: u16,
    low_water: &LowWater,
) -> Result<Vec<Claim>, QueueError> {
    let mut db = db.acquire().await?;
    queue::claim(&mut db, worker, models, limit, low_water).await
}
