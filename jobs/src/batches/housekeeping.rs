use std::time::Duration;

use clap::Args;
use sqlx::PgPool;

use super::{cancel_some, finish_due, seal_abandoned};
use crate::{
    db::{Db, answered},
    queue::{Notifier, QueueError},
};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Batches")]
pub struct BatchesConfig {
    /// A batch whose upload appends nothing for so long takes no more lines, in seconds; its jobs run
    #[arg(
        long,
        env = "DARKROOM_BATCH_ABANDONED_SECONDS",
        default_value_t = 900.0
    )]
    pub batch_abandoned_seconds: f64,
}

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(1);

/// One round. Any number of processes may run rounds at once.
async fn round(db: &PgPool, notifier: &Notifier, config: &BatchesConfig) -> Result<(), QueueError> {
    // One connection for all statements: each return to the pool is a round trip.
    let mut db = db.acquire().await?;
    while cancel_some(&mut *db, None).await? > 0 {}
    let abandoned = seal_abandoned(&mut *db, config.batch_abandoned_seconds).await?;
    if !abandoned.is_empty() {
        tracing::warn!(batches = abandoned.len(), "uploads of batches ended early");
    }
    loop {
        let ended = finish_due(&mut *db).await?;
        if ended.is_empty() {
            return Ok(());
        }
        metrics::counter!("darkroom_batches_finished_total").increment(ended.len() as u64);
        notifier.batches_ended(ended);
    }
}

/// Cancels, seals and ends batches once a second, for as long as the process lives.
pub async fn housekeep(db: Db, config: BatchesConfig) {
    let notifier = Notifier::start(db.clone());
    loop {
        let round = Box::pin(round(&db, &notifier, &config));
        if let Err(error) = answered(&db, round).await {
            tracing::warn!(error.cause = %error, "housekeeping of batches failed; trying again");
        }
        tokio::time::sleep(EVERY).await;
    }
}
