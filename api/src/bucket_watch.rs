//! Watches whether this process can use its bucket: `/readyz` says no until it can.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    bucket::{self, BucketState, Checked, Program},
    db::Db,
    object_store::{BucketReport, ObjectStore, Right},
};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// Pause between two looks for the marker: one small read.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Pause between two checks with an object of their own: six requests. `ops.health` ignores what is older than ten minutes.
const CHECK_EVERY: Duration = Duration::from_mins(5);
/// Pauses after a failure grow from the first to the second.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// Longest check. A store that does not answer fails it.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// Longest read of the marker for `/readyz`.
const READ_MAX: Duration = Duration::from_secs(2);

/// What this process knows of its bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BucketWatch {
    db: Db,
    store: ObjectStore,
    adopts_bucket: bool,
    /// Names the check objects of this process.
    name: Uuid,
    /// Names this process in `ops.health`.
    process: Arc<str>,
    state: watch::Sender<BucketState>,
    report: Arc<Mutex<Option<(BucketReport, Instant)>>>,
}

impl BucketWatch {
    pub(crate) fn new(db: Db, store: ObjectStore, adopts_bucket: bool) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let host = host.as_deref().map_or("api", str::trim);
        let checking = format!("{} has not been checked yet", store.place());
        Self {
            db,
            store,
            adopts_bucket,
            name: Uuid::now_v7(),
            process: format!("{host}-{}", std::process::id()).into(),
            state: watch::Sender::new(BucketState::Away(checking)),
            report: Arc::default(),
        }
    }

    /// What the last check found.
    pub(crate) fn state(&self) -> watch::Receiver<BucketState> {
        self.state.subscribe()
    }

    /// The state now: what the last check found and, if that was good, what a read of the marker finds.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn look(&self) -> Result<BucketState, sqlx::Error> {
        let known = self.state.borrow().clone();
        if known != BucketState::Usable {
            return Ok(known);
        }
        let read = bucket::find_marker(&self.db, &self.store, Program::Api);
        timeout(READ_MAX, read)
            .await
            .unwrap_or_else(|_| Ok(self.no_answer(READ_MAX)))
    }

    /// Checks until the process ends: all kinds of requests until these succeed and then every few minutes, the marker more often.
    pub(crate) async fn keep_checking(self) {
        let mut retry = RETRY_FIRST;
        loop {
            let is_usable = *self.state.borrow() == BucketState::Usable;
            if is_usable {
                retry = RETRY_FIRST;
                sleep(LOOK_EVERY).await;
            } else {
                sleep(retry).await;
                retry = (retry * 2).min(RETRY_LONGEST);
            }
            self.check().await;
        }
    }

    /// Makes the checks that are due, and publishes and records the outcome.
    pub(crate) async fn check(&self) {
        let checked = timeout(CHECK_MAX, self.find_state()).await;
        match checked {
            Ok(Ok(state)) => self.publish(&state),
            Err(_) => self.publish(&self.no_answer(CHECK_MAX)),
            Ok(Err(error)) => {
                tracing::warn!(error.cause = %error, "the bucket check cannot ask Postgres");
            }
        }
    }

    async fn find_state(&self) -> Result<BucketState, sqlx::Error> {
        let mut report = self.report.lock().await;
        let is_due = self.state.borrow().fault().is_some()
            || report
                .as_ref()
                .is_none_or(|(_, at)| at.elapsed() > CHECK_EVERY);
        let mut state = BucketState::Usable;
        if is_due {
            let (tried, found) = bucket::try_requests(&self.store, self.name).await;
            state = tried;
            if let Some(found) = found {
                let before = report.replace((found.clone(), Instant::now()));
                if before.is_none_or(|(known, _)| known != found) {
                    warn_of_lacks(&self.store, &found);
                }
            }
        }
        if state == BucketState::Usable {
            state = bucket::keep_marker(&self.db, &self.store, self.adopts_bucket).await?;
        }
        if is_due || state != BucketState::Usable {
            let rights = report
                .as_ref()
                .map(|(found, _)| found.missing_rights.clone());
            self.record(&state, &rights.unwrap_or_default()).await?;
        }
        Ok(state)
    }

    async fn record(&self, state: &BucketState, missing: &[Right]) -> Result<(), sqlx::Error> {
        let checked = Checked {
            program: Program::Api,
            process: &self.process,
            state,
            missing_rights: missing,
        };
        bucket::record(&self.db, checked).await
    }

    fn publish(&self, state: &BucketState) {
        let before = self.state.send_replace(state.clone());
        match state.fault() {
            Some(why) if before != *state => {
                tracing::error!(error.cause = why, "the bucket cannot be used");
            }
            None if before != *state => {
                tracing::info!(place = self.store.place(), "the bucket can be used");
            }
            _ => {}
        }
    }

    fn no_answer(&self, longest: Duration) -> BucketState {
        BucketState::Away(format!(
            "no answer in {} s: check {}; {}",
            longest.as_secs(),
            self.store.place_settings(),
            self.store.place()
        ))
    }
}

/// Warns of what jobs can do without, but operators should know.
fn warn_of_lacks(store: &ObjectStore, report: &BucketReport) {
    let place = store.place();
    for right in &report.missing_rights {
        tracing::warn!(
            place,
            right = right.name(),
            consequence = right.needed_for(),
            "the credentials lack a right on the bucket"
        );
    }
    if !report.verifies_checksums {
        tracing::warn!(
            place,
            "the store does not check signed uploads against their SHA-256: it takes other bytes. The API reads each signed upload \
             before a job over it is accepted"
        );
    }
}
