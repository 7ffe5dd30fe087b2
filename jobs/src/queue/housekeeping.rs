use std::time::Duration;

use sqlx::PgPool;

use super::{QueueError, expire, promote, rescue, time_out};

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
/// How often it looks for missing partitions.
const PARTITIONS_EVERY_ROUNDS: u32 = 3600;
const PARTITION_DAYS_AHEAD: i32 = 3;

/// One round, safe from any number of processes at once.
async fn round(db: &PgPool) -> Result<Housekept, QueueError> {
    Ok(Housekept {
        rescued: rescue(db).await?,
        timed_out: time_out(db).await?,
        expired: expire(db).await?,
        promoted: promote(db).await?,
    })
}

/// Rescues, times out, expires and promotes once a second, for as long as the process lives.
pub async fn housekeep(db: PgPool) {
    for rounds in (0..PARTITIONS_EVERY_ROUNDS).cycle() {
        match round(&db).await {
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
            && let Err(error) = crate::db::make_partitions(&db, PARTITION_DAYS_AHEAD).await
        {
            tracing::warn!(error.cause = %error, "no partitions made; the default ones serve");
        }
        // A jitter would help nothing: rounds of several processes skip each other's rows.
        tokio::time::sleep(EVERY).await;
    }
}
