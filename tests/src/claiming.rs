//! Claims on a connection of a pool. A worker claims on connections that it keeps ([`queue::claim`]).

use jobs::{
    WorkerId,
    queue::{self, Claim, LowWater, LowerLevels, QueueError},
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
    let strict = LowerLevels::default();
    queue::claim(&mut db, worker, models, limit, low_water, &strict).await
}

/// Claims like a worker that gives turns to lower priorities.
pub async fn claim_with_turns(
    db: &PgPool,
    worker: WorkerId,
    limit: u16,
    lower_levels: &LowerLevels,
) -> Result<Vec<Claim>, QueueError> {
    let mut db = db.acquire().await?;
    let mut claims = queue::claim_lower(&mut db, worker, &[], limit, lower_levels).await?;
    let rest = limit - claims.len() as u16;
    if rest > 0 {
        let low_water = LowWater::default();
        let more = queue::claim(&mut db, worker, &[], rest, &low_water, lower_levels);
        claims.extend(more.await?);
    }
    Ok(claims)
}
