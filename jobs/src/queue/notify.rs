//! Sends wake-ups after a commit, coalesced. A NOTIFY inside the statement that changes jobs would take a lock of the whole
//! database at commit.
//!
//! Wake-ups only save latency. A notification may be lost, so every waiter also polls at long intervals.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::{BatchId, JobId, backoff::Backoff, db::StatementPool, tasks};

/// Payload: the row id of the model that has queued jobs.
pub const QUEUED_CHANNEL: &str = "darkroom_queued";
/// Payload: ids of jobs that ended or went back and of batches that ended, 32 hex digits each.
pub const CHANGED_CHANNEL: &str = "darkroom_changed";
/// Payload: ids of jobs that a worker began, 32 hex digits each. A channel of its own: most waiters want only the end.
pub const STARTED_CHANNEL: &str = "darkroom_started";
/// Payload: the id of the worker that should send a heartbeat at once. The answer tells the reason: a drain, or the cancel
/// of a job that it runs.
pub const WORKER_CHANNEL: &str = "darkroom_worker";

/// Stands for all models: wakes every worker.
pub const ANY_MODEL: i64 = 0;

/// Least time between two rounds of notifications of one process.
const COALESCE: Duration = Duration::from_millis(2);
/// Least time between two rounds while notifications keep coming: each round wakes every listener of the database.
const COALESCE_MAX: Duration = Duration::from_millis(20);
/// How long starts wait for other notifications: few clients listen to starts.
const STARTS_WAIT: Duration = Duration::from_millis(20);
/// A payload holds less than 8000 bytes.
const IDS_PER_PAYLOAD: usize = 240;

/// What the next round will send.
#[derive(Debug, Default)]
struct PendingNotifications {
    queued: BTreeSet<i64>,
    started: Vec<JobId>,
    changed: Vec<JobId>,
}

impl PendingNotifications {
    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.started.is_empty() && self.changed.is_empty()
    }
}

/// Notifies workers of queued jobs, and waiting clients of changed ones. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    wake: Arc<Notify>,
    /// For notifications that may wait for others.
    wake_soon: Arc<Notify>,
    pending: Arc<Mutex<PendingNotifications>>,
    /// Held while a round is being sent.
    sending: Arc<tokio::sync::Mutex<()>>,
    db: StatementPool,
}

impl Notifier {
    pub fn start(db: impl Into<StatementPool>) -> Self {
        let notifier = Self {
            wake: Arc::default(),
            wake_soon: Arc::default(),
            pending: Arc::default(),
            sending: Arc::default(),
            db: db.into(),
        };
        let sender = notifier.clone();
        tasks::restart("notifier", move || sender.clone().run());
        notifier
    }

    async fn run(self) {
        let mut pause = Backoff::new(COALESCE, COALESCE_MAX);
        loop {
            self.wait_for_pending().await;
            self.flush().await;
            tokio::time::sleep(pause.next_pause()).await;
            if self.pending().is_empty() {
                pause.reset();
            }
        }
    }

    async fn wait_for_pending(&self) {
        let soon = async {
            self.wake_soon.notified().await;
            tokio::time::sleep(STARTS_WAIT).await;
        };
        tokio::select! { () = self.wake.notified() => {} () = soon => {} }
    }

    /// Sends what is pending, and returns when it was sent: for a process that is about to end.
    pub fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _guard = self.sending.lock().await;
            let pending = std::mem::take(&mut *self.pending());
            if pending.is_empty() {
                return;
            }
            if let Err(error) = send(&self.db, &pending).await {
                tracing::debug!(error.cause = %error, "wake-ups not sent; waiters poll");
            }
        })
    }

    /// Jobs of this model were queued.
    pub fn queued(&self, model_id: i64) {
        self.pending().queued.insert(model_id);
        self.wake.notify_one();
    }

    /// A worker began these jobs. Sent with the next notifications, or a little later.
    pub fn started(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut pending = self.pending();
        pending.started.extend(jobs);
        if !pending.started.is_empty() {
            self.wake_soon.notify_one();
        }
    }

    /// These jobs ended or went back to the queue.
    pub fn changed(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut pending = self.pending();
        pending.changed.extend(jobs);
        if !pending.changed.is_empty() {
            self.wake.notify_one();
        }
    }

    /// These batches ended. Ids are unique over jobs and batches, so batches share the channel of the jobs.
    pub fn batches_ended(&self, batches: impl IntoIterator<Item = BatchId>) {
        self.changed(batches.into_iter().map(|batch| batch.uuid().into()));
    }

    fn pending(&self) -> MutexGuard<'_, PendingNotifications> {
        self.pending.lock().expect("no panic holds it")
    }
}

/// A NOTIFY is a transaction that writes; it need not wait for the disk.
async fn send(db: &StatementPool, pending: &PendingNotifications) -> Result<(), sqlx::Error> {
    let queued = pending
        .queued
        .iter()
        .map(|model| (QUEUED_CHANNEL.to_owned(), model.to_string()));
    let started = payloads(STARTED_CHANNEL, &pending.started);
    let changed = payloads(CHANGED_CHANNEL, &pending.changed);
    let (channels, payloads): (Vec<_>, Vec<_>) = queued.chain(started).chain(changed).unzip();
    let sent = sqlx::query!(
        "with quick as materialized (select set_config('synchronous_commit', 'off', true))
         select pg_notify(channel, payload) from quick, unnest($1::text[], $2::text[]) as news(channel, payload)",
        &channels,
        &payloads
    );
    db.run(async |db| sent.execute(db).await).await.map(|_| ())
}

fn payloads(channel: &str, jobs: &[JobId]) -> impl Iterator<Item = (String, String)> {
    jobs.chunks(IDS_PER_PAYLOAD).map(move |jobs| {
        let ids = jobs.iter().map(|job| job.uuid().simple().to_string());
        (channel.to_owned(), ids.collect())
    })
}
