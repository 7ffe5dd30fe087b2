use std::time::Duration;

use sqlx::PgPool;

use super::{ANY_MODEL, Notifier, QueueError, expire, forget_keys, promote, rescue, time_out};
use crate::{JobId, db::Kept};

/// What one round of housekeeping moved.
#[derive(Debug, Default, Clone, Copy)]
pub struct Housekept {
    pub rescued: u64,
    pub timed_out: u64,
    pub expired: u64,
    pub promoted: u64,
}

/// How often a process looks.
const EVERY: Duration = Duration::from_secs(1);
/// How often it looks for missing partitions and old keys.
const HOUR_ROUNDS: u32 = 3600;
const PARTITION_DAYS_AHEAD: i32 = 3;

/// One round, safe from any number of processes at once.
async fn round(db: &PgPool, notifier: &Notifier) -> Result<Housekept, QueueError> {
    // One connection for all of them: each way back into the pool is a trip.
    let mut db = db.acquire().await?;
    let rescued = moved("rescue", rescue(&mut *db).await);
    let timed_out = moved("time_out", time_out(&mut *db).await);
    let expired = moved("expire", expire(&mut *db).await);
    let promoted = moved("promote", promote(&mut *db).await);
    let kept = Housekept {
        rescued: rescued.len() as u64,
        timed_out: timed_out.len() as u64,
        expired: expired.len() as u64,
        promoted: promoted.len() as u64,
    };
    if kept.rescued + kept.promoted > 0 {
        notifier.queued(ANY_MODEL);
    }
    notifier.changed(rescued.into_iter().chain(timed_out).chain(expired));
    Ok(kept)
}

/// A row that Postgres cannot do this with must not stop the other verbs: their jobs are others.
fn moved(verb: &'static str, outcome: Result<Vec<JobId>, QueueError>) -> Vec<JobId> {
    outcome.unwrap_or_else(|error| {
        tracing::warn!(error.cause = %error, verb, "housekeeping failed; trying again");
        Vec::new()
    })
}

/// Rescues, times out, expires and promotes once a second, for as long as the process lives.
pub async fn housekeep(db: impl Into<Kept>) {
    let kept = db.into();
    let (notifier, db) = (Notifier::start(kept.clone()), kept.pool());
    for rounds in (0..HOUR_ROUNDS).cycle() {
        let round = Box::pin(round(db, &notifier));
        match crate::db::answered(db, round).await {
            Ok(kept) => {
                metrics::counter!("darkroom_rescued_total").increment(kept.rescued);
                metrics::counter!("darkroom_timed_out_total").increment(kept.timed_out);
                metrics::counter!("darkroom_expired_total").increment(kept.expired);
                if kept.rescued + kept.timed_out > 0 {
                    tracing::warn!(
                        jobs.rescued = kept.rescued,
                        jobs.timed_out = kept.timed_out,
                        "took jobs back"
                    );
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "housekeeping failed; trying again"),
        }
        if rounds == 0
            && let Err(error) = crate::db::make_partitions(db, PARTITION_DAYS_AHEAD).await
        {
            tracing::warn!(error.cause = %error, "no partitions made; the default ones serve");
        }
        if rounds == 0
            && let Err(error) = forget_keys(db).await
        {
            tracing::warn!(error.cause = %error, "old idempotency keys stay for another hour");
        }
        // A jitter would help nothing: rounds of several processes skip each other's rows.
        tokio::time::sleep(EVERY).await;
    }
}
