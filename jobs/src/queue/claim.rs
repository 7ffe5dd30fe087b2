use std::time::Instant;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Lease, LowWater, LowerLevels, QueueError,
    low_water::{Position, ScanRanges},
};
use crate::{Sha256Digest, WorkerId};

/// A job and its lease in a worker's hands.
#[derive(Debug, Clone)]
pub struct Claim {
    pub lease: Lease,
    pub owner: String,
    pub model_version_id: i64,
    pub image_sha256: Sha256Digest,
    /// Which of the image's objects: see [`crate::images::object_key`].
    pub image_upload: Uuid,
    pub params: Value,
    /// Attempts that were lost with their worker: such an image is tried alone.
    pub interruptions: i16,
    /// Number of this attempt, from 1.
    pub attempt: i16,
    pub attempt_timeout_seconds: i32,
    pub trace_parent: Option<String>,
    /// From being due to being claimed, by the database's clock.
    pub queue_ms: f64,
}

/// Leases up to `limit` due jobs to `worker`, highest priority first, then in fair order; may be none.
///
/// Commits before inference starts: from then on the lease guards the job, not a row lock.
/// `models`: names that the worker runs; empty for any.
/// `low_water`: how far this worker has come. A job below its marks is found within a second. The result is empty only when no
/// job is due. `lower_levels`: notes what [`claim_lower`] owes to lower priorities.
///
/// # Errors
/// Postgres is away. Jobs that may have been claimed come back when the worker's lease runs out.
pub async fn claim(
    db: &mut PgConnection,
    worker: WorkerId,
    models: &[String],
    limit: u16,
    low_water: &LowWater,
    lower_levels: &LowerLevels,
) -> Result<Vec<Claim>, QueueError> {
    let below = (limit, i16::MAX);
    let (claims, positions) = search(db, worker, models, below, low_water).await?;
    let is_full = claims.len() == usize::from(limit);
    let priorities = positions.iter().map(|position| position.priority);
    lower_levels.note_claim(priorities, is_full);
    Ok(claims)
}

/// Leases jobs of lower priorities than the last full claims took, if these are owed a turn; at most `limit`. Without a turn, asks
/// nothing and returns none.
///
/// To be called before [`claim`], which then claims the rest.
///
/// # Errors
/// As [`claim`].
pub async fn claim_lower(
    db: &mut PgConnection,
    worker: WorkerId,
    models: &[String],
    limit: u16,
    lower_levels: &LowerLevels,
) -> Result<Vec<Claim>, QueueError> {
    // A turn that finds nothing is followed by one at the top, and that one by none.
    while let Some(turn) = lower_levels.turn(limit, Instant::now()) {
        let below = (turn.limit, turn.highest);
        let low_water = &lower_levels.low_water;
        let (claims, positions) = search(&mut *db, worker, models, below, low_water).await?;
        let priorities = positions.iter().map(|position| position.priority);
        lower_levels.note_turn(priorities, Instant::now());
        if !claims.is_empty() {
            return Ok(claims);
        }
    }
    Ok(Vec::new())
}

/// Claims up to a number of jobs that have at most a priority: above the marks, and below them if there are none above.
async fn search(
    db: &mut PgConnection,
    worker: WorkerId,
    models: &[String],
    (limit, highest): (u16, i16),
    low_water: &LowWater,
) -> Result<(Vec<Claim>, Vec<Position>), QueueError> {
    loop {
        let look = low_water.look(Instant::now());
        let take = take(&mut *db, worker, models, (limit, highest), &look);
        let (claims, positions) = take.await?;
        let is_full = claims.len() == usize::from(limit);
        low_water.note(&look, &positions, is_full, Instant::now());
        if !claims.is_empty() || look.is_sweep() {
            return Ok((claims, positions));
        }
        low_water.sweep_next();
    }
}

async fn take(
    db: &mut PgConnection,
    worker: WorkerId,
    models: &[String],
    (limit, highest): (u16, i16),
    look: &ScanRanges,
) -> Result<(Vec<Claim>, Vec<Position>), QueueError> {
    let mut rows = sqlx::query_file!(
        "src/queue/claim.sql",
        worker.0,
        models,
        i64::from(limit),
        &look.model_ids,
        &look.highest,
        &look.lowest,
        &look.marks,
        highest
    )
    .fetch_all(db)
    .await?;
    // `update … returning` keeps no order.
    rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.seq));
    let positions = rows.iter().map(|row| Position {
        model_id: row.model_id,
        priority: row.priority,
        seq: row.seq,
    });
    let positions = positions.collect();
    let claims = rows
        .into_iter()
        .map(|row| {
            let sha256 = row.image_sha256.as_slice().try_into();
            Ok(Claim {
                lease: Lease {
                    job_id: row.job_id.into(),
                    lease_no: row.lease_no.into(),
                },
                owner: row.owner,
                model_version_id: row.model_version_id,
                image_sha256: sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
                image_upload: row.image_upload,
                params: row.params,
                interruptions: row.interruptions,
                attempt: row.attempts_started,
                attempt_timeout_seconds: row.attempt_timeout_seconds,
                trace_parent: row.trace_parent,
                queue_ms: row.queue_ms,
            })
        })
        .collect::<Result<_, QueueError>>()?;
    Ok((claims, positions))
}
