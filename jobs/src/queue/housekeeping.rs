use std::time::Duration;

use sqlx::PgPool;

use super::{
    ANY_MODEL, Notifier, QueueError, expire, fold_history, forget_keys, promote, rescue, time_out,
};
use crate::{
    JobId,
    db::{Db, StatementPool, adopt_cluster, answered, make_partitions, note_error},
    models::rescue_trials,
};

/// How many jobs one round of housekeeping moved.
#[derive(Debug, Default, Clone, Copy)]
pub struct HousekeepingCounts {
    pub rescued: u64,
    pub timed_out: u64,
    pub expired: u64,
    pub promoted: u64,
}

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Rounds from one look for missing partitions and old keys to the next.
const HOUR_ROUNDS: u32 = 3600;
/// Rounds from one look for a restore to the next.
const MINUTE_ROUNDS: u32 = 60;
const PARTITION_DAYS_AHEAD: i32 = 3;
/// Pause between two folds of the history.
const FOLD_EVERY: Duration = Duration::from_secs(10);

/// One round. Any number of processes may run rounds at once.
async fn round(db: &PgPool, notifier: &Notifier) -> Result<HousekeepingCounts, QueueError> {
    // One connection for all verbs: each return to the pool is a round trip.
    let mut db = db.acquire().await?;
    let rescued = jobs_or_none("rescue", rescue(&mut *db).await);
    let timed_out = jobs_or_none("time_out", time_out(&mut *db).await);
    let expired = jobs_or_none("expire", expire(&mut *db).await);
    let promoted = jobs_or_none("promote", promote(&mut *db).await);
    match rescue_trials(&mut *db).await {
        Ok(0) => {}
        Ok(trials) => tracing::warn!(trials, "took trials of models back"),
        Err(error) => {
            note_error(&error);
            tracing::warn!(error.cause = %error, verb = "rescue_trials", "housekeeping failed; trying again");
        }
    }
    let counts = HousekeepingCounts {
        rescued: rescued.len() as u64,
        timed_out: timed_out.len() as u64,
        expired: expired.len() as u64,
        promoted: promoted.len() as u64,
    };
    if counts.rescued + counts.promoted > 0 {
        notifier.queued(ANY_MODEL);
    }
    notifier.changed(rescued.into_iter().chain(timed_out).chain(expired));
    Ok(counts)
}

/// A row that one verb cannot handle must not stop the other verbs.
fn jobs_or_none(verb: &'static str, outcome: Result<Vec<JobId>, QueueError>) -> Vec<JobId> {
    outcome.unwrap_or_else(|error| {
        note_error(&error);
        tracing::warn!(error.cause = %error, verb, "housekeeping failed; trying again");
        Vec::new()
    })
}

/// Rescues jobs and trials, times out, expires and promotes once a second, and folds the history every ten seconds, for as long
/// as the process lives.
pub async fn housekeep(db: impl Into<StatementPool>) {
    let statements = db.into();
    let db = statements.db().clone();
    // Side by side: jobs of lost workers must not wait for statistics.
    tokio::join!(move_jobs(statements), fold(db));
}

async fn fold(db: Db) {
    loop {
        if let Err(error) = answered(&db, fold_history(&db)).await {
            tracing::warn!(error.cause = %error, "cannot fold the history; its views are still right, but slower");
        }
        tokio::time::sleep(FOLD_EVERY).await;
    }
}

async fn move_jobs(statements: StatementPool) {
    let (notifier, db) = (Notifier::start(statements.clone()), statements.db());
    for rounds in (0..HOUR_ROUNDS).cycle() {
        let round = Box::pin(round(db, &notifier));
        match answered(db, round).await {
            Ok(counts) => {
                metrics::counter!("darkroom_rescued_total").increment(counts.rescued);
                metrics::counter!("darkroom_timed_out_total").increment(counts.timed_out);
                metrics::counter!("darkroom_expired_total").increment(counts.expired);
                if counts.rescued + counts.timed_out > 0 {
                    tracing::warn!(
                        jobs.rescued = counts.rescued,
                        jobs.timed_out = counts.timed_out,
                        "took jobs back"
                    );
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "housekeeping failed; trying again"),
        }
        if rounds % MINUTE_ROUNDS == 0
            && let Err(error) = answered(db, adopt_cluster(db)).await
        {
            tracing::warn!(error.cause = %error, "cannot look whether the database was restored; trying again in a minute");
        }
        if rounds == 0
            && let Err(error) = make_partitions(db, PARTITION_DAYS_AHEAD).await
        {
            tracing::warn!(error.cause = %error, "cannot make partitions; rows go to the default ones");
        }
        if rounds == 0
            && let Err(error) = forget_keys(db).await
        {
            tracing::warn!(error.cause = %error, "cannot delete old idempotency keys; trying again in an hour");
        }
        // Needs no jitter: rounds of several processes skip each other's rows.
        tokio::time::sleep(EVERY).await;
    }
}
