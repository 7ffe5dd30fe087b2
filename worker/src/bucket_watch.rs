//! Watches whether this worker has the bucket of the API.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    bucket::{self, BucketState, Checked, Program},
    db::Db,
    object_store::ObjectStore,
};
use tokio::{
    sync::{Mutex, watch},
    time::sleep,
};

use crate::backoff::with_jitter;

/// Pause between two looks for the marker. Each is one small read.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// An unchanged state is recorded after this time: `ops.health` ignores what is older than ten minutes.
const RECORD_EVERY: Duration = Duration::from_mins(3);
/// Longest look. A store that does not answer must not hold up the start for longer.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// Checks the bucket and remembers what was found. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BucketWatch {
    worker: String,
    db: Db,
    store: ObjectStore,
    state: watch::Sender<BucketState>,
    recorded: Arc<Mutex<Option<(BucketState, Instant)>>>,
}

impl BucketWatch {
    pub(crate) fn new(worker: String, db: Db, store: ObjectStore) -> Self {
        Self {
            worker,
            db,
            store,
            state: watch::Sender::new(BucketState::Usable),
            recorded: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<BucketState> {
        self.state.subscribe()
    }

    /// Looks for the marker of the API and records the outcome.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn check(&self) -> Result<BucketState, sqlx::Error> {
        let look = bucket::find_marker(&self.db, &self.store, Program::Worker);
        let state = tokio::time::timeout(CHECK_MAX, look)
            .await
            .unwrap_or_else(|_| {
                let seconds = CHECK_MAX.as_secs();
                let place = self.store.place();
                Ok(BucketState::Away(format!(
                    "no answer in {seconds} s; {place}"
                )))
            })?;
        let recorded = self.record(&state).await;
        self.note(&state);
        recorded.map(|()| state)
    }

    /// Publishes what was found; logs a change.
    pub(crate) fn note(&self, state: &BucketState) {
        let before = self.state.send_replace(state.clone());
        if before == *state {
            return;
        }
        if let Some(why) = state.fault() {
            tracing::warn!(error.cause = why, "the bucket cannot be used");
        } else {
            tracing::info!("the bucket can be used");
        }
    }

    async fn record(&self, state: &BucketState) -> Result<(), sqlx::Error> {
        let mut recorded = self.recorded.lock().await;
        let is_recorded = recorded
            .as_ref()
            .is_some_and(|(known, at)| known == state && at.elapsed() < RECORD_EVERY);
        if is_recorded {
            return Ok(());
        }
        let checked = Checked {
            program: Program::Worker,
            process: &self.worker,
            state,
            missing_rights: &[],
        };
        bucket::record(&self.db, checked).await?;
        *recorded = Some((state.clone(), Instant::now()));
        Ok(())
    }

    /// Checks until the process ends.
    pub(crate) async fn keep_checking(self) {
        loop {
            sleep(with_jitter(CHECK_EVERY)).await;
            if let Err(error) = self.check().await {
                tracing::debug!(error.cause = %error, "the bucket check cannot ask Postgres");
            }
        }
    }
}
