//! Retention: purges data at the end of its time, prunes tombstones, collects images that no job needs.

use std::time::Duration;

use clap::Args;

use crate::{
    batches,
    db::{Db, answered},
    events,
    images::{self, CollectError},
    object_store::ObjectStore,
    orphans,
    queue::{self, QueueError},
    results, webhooks,
};

/// Most steps of one round that look at reported images: each step reads some whole objects.
const CHECK_STEPS_MAX: usize = 10;

/// How long data stays after its use has ended.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionConfig {
    /// How long a purged job still answers 410 before its id is unknown, in days; up to a day longer
    #[arg(long, env = "DARKROOM_TOMBSTONE_DAYS", default_value_t = 30.0)]
    pub tombstone_days: f64,
    /// How long events, and deliveries of webhooks that have ended, can be looked up, in days
    #[arg(long, env = "DARKROOM_EVENT_DAYS", default_value_t = 30.0)]
    pub event_days: f64,
    /// How long an image that no job needs stays in the bucket, in seconds; longer than a submit can take
    #[arg(long, env = "DARKROOM_IMAGE_GRACE_SECONDS", default_value_t = 3600.0)]
    pub image_grace_seconds: f64,
    /// How long the jobs of an image wait after the bucket has lost the image, in hours: an operator may restore it, or a client
    /// may submit it again. Then the jobs fail with `data_purged`, uncharged
    #[arg(long, env = "DARKROOM_LOST_IMAGE_HOURS", default_value_t = 24.0)]
    pub lost_image_hours: f64,
    /// Pause between two looks for data to delete, in seconds
    #[arg(long, env = "DARKROOM_RETENTION_PAUSE_SECONDS", default_value_t = 60.0)]
    pub retention_pause_seconds: f64,
}

/// How much one round removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RemovedCounts {
    pub purged_jobs: u64,
    pub pruned_jobs: u64,
    pub pruned_days: u64,
    pub collected_results: u64,
    pub pruned_batches: u64,
    pub pruned_event_days: u64,
    pub pruned_deliveries: u64,
    pub collected_images: u64,
    pub swept_objects: u64,
    pub swept_uploads: u64,
    pub checked_images: u64,
    pub failed_jobs: u64,
}

/// Why a step of a round failed; the next round tries it again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error(transparent)]
    Db(#[from] sqlx::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    pub removed: RemovedCounts,
    /// The steps that failed, by name.
    pub failed: Vec<(&'static str, RetentionError)>,
}

impl Round {
    /// The error of the first step that failed.
    ///
    /// # Errors
    /// A step failed.
    pub fn into_result(self) -> Result<RemovedCounts, RetentionError> {
        match self.failed.into_iter().next() {
            None => Ok(self.removed),
            Some((_, error)) => Err(error),
        }
    }

    /// Runs one step and keeps its error: the steps behind it run all the same.
    async fn step<E: Into<RetentionError>>(
        &mut self,
        name: &'static str,
        step: impl AsyncFnOnce(&mut RemovedCounts) -> Result<(), E>,
    ) {
        if let Err(error) = step(&mut self.removed).await {
            self.failed.push((name, error.into()));
        }
    }
}

/// One round. Any number of processes may run rounds at once. No step waits for the success of another.
#[allow(clippy::too_many_lines, reason = "one call for each step")]
pub async fn round(db: &Db, store: &ObjectStore, config: &RetentionConfig) -> Round {
    let mut round = Round::default();
    let tombstone_seconds = config.tombstone_days * 86_400.0;
    let event_seconds = config.event_days * 86_400.0;
    let grace = config.image_grace_seconds;
    round
        .step("purge jobs", async |removed| {
            until_none(&mut removed.purged_jobs, || {
                answered(db, queue::purge_due(db))
            })
            .await
        })
        .await;
    round
        .step("prune days of jobs", async |removed| {
            let days = answered(db, queue::prune_days(db, tombstone_seconds)).await?;
            removed.pruned_days = u64::from(days.unsigned_abs());
            Ok::<_, QueueError>(())
        })
        .await;
    round
        .step("prune jobs", async |removed| {
            // A day later than whole days are pruned, so that rows of such a day are not pruned one by one before.
            let by_row_seconds = tombstone_seconds + 86_400.0;
            until_none(&mut removed.pruned_jobs, || {
                answered(db, queue::prune(db, by_row_seconds))
            })
            .await
        })
        .await;
    round
        .step("collect results", async |removed| {
            until_none(&mut removed.collected_results, || {
                results::collect(db, store)
            })
            .await
        })
        .await;
    round
        .step("prune batches", async |removed| {
            until_none(&mut removed.pruned_batches, || {
                answered(db, batches::prune(db, tombstone_seconds))
            })
            .await
        })
        .await;
    round
        .step("prune events", async |removed| {
            let days = answered(db, events::prune_events(db, event_seconds)).await?;
            removed.pruned_event_days = u64::from(days.unsigned_abs());
            Ok::<_, sqlx::Error>(())
        })
        .await;
    round
        .step("prune webhook deliveries", async |removed| {
            until_none(&mut removed.pruned_deliveries, || {
                answered(db, webhooks::prune_deliveries(db, event_seconds))
            })
            .await
        })
        .await;
    round
        .step("collect images", async |removed| {
            until_none(&mut removed.collected_images, || {
                images::collect(db, store, grace)
            })
            .await
        })
        .await;
    round
        .step("sweep signed uploads", async |removed| {
            until_none(&mut removed.swept_uploads, || {
                images::sweep_signed_uploads(db, store)
            })
            .await
        })
        .await;
    round
        .step("check reported images", async |removed| {
            for _ in 0..CHECK_STEPS_MAX {
                let checked = images::check_reported(db, store).await?;
                removed.checked_images += checked;
                if checked == 0 {
                    break;
                }
            }
            Ok::<_, CollectError>(())
        })
        .await;
    round
        .step("fail jobs of lost images", async |removed| {
            let lost_seconds = config.lost_image_hours * 3600.0;
            until_none(&mut removed.failed_jobs, || {
                answered(db, images::fail_jobs_of_lost_images(db, lost_seconds))
            })
            .await
        })
        .await;
    round
        .step("sweep objects", async |removed| {
            let pause = config.retention_pause_seconds / 2.0;
            let swept = orphans::sweep(db, store, grace, pause).await?;
            removed.swept_objects = swept.unwrap_or(0);
            Ok::<_, CollectError>(())
        })
        .await;
    round
}

/// Calls `remove_some` until it removes nothing, and adds what it removed to `sum`.
async fn until_none<E, F>(sum: &mut u64, remove_some: impl Fn() -> F) -> Result<(), E>
where
    F: Future<Output = Result<u64, E>>,
{
    loop {
        let more = remove_some().await?;
        *sum += more;
        if more == 0 {
            return Ok(());
        }
    }
}

/// Runs rounds with pauses between them, for as long as the process lives.
pub async fn keep(db: Db, store: ObjectStore, config: RetentionConfig) {
    loop {
        let Round { removed, failed } = round(&db, &store, &config).await;
        for (step, error) in failed {
            tracing::warn!(error.cause = %error, step, "a step of retention failed; trying again in the next round");
        }
        if removed != RemovedCounts::default() {
            tracing::info!(
                jobs.purged = removed.purged_jobs,
                jobs.pruned = removed.pruned_jobs,
                days.pruned = removed.pruned_days,
                results.collected = removed.collected_results,
                batches.pruned = removed.pruned_batches,
                days.events = removed.pruned_event_days,
                webhooks.pruned = removed.pruned_deliveries,
                images.collected = removed.collected_images,
                objects.swept = removed.swept_objects,
                uploads.swept = removed.swept_uploads,
                images.checked = removed.checked_images,
                jobs.failed = removed.failed_jobs,
                "removed data at the end of its retention"
            );
        }
        tokio::time::sleep(Duration::from_secs_f64(config.retention_pause_seconds)).await;
    }
}
