//! Wake-ups, the sending side: after the commit, coalesced, never inside the statement that changes jobs (a NOTIFY there
//! takes a database-wide lock at commit).
//!
//! They only save latency: whoever waits also polls slowly, since a notification may be lost.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{BatchId, JobId, db::Kept};

/// Payload: the row id of the model that has queued jobs.
pub const QUEUED_CHANNEL: &str = "darkroom_queued";
/// Payload: ids of jobs that ended or went back and of batches that ended, 32 hex digits each.
pub const CHANGED_CHANNEL: &str = "darkroom_changed";
/// Payload: ids of jobs that a worker began, the same way: most who wait want only the end.
pub const STARTED_CHANNEL: &str = "darkroom_started";
/// Payload: the id of the worker that should look at once (a heartbeat tells it why): it is to drain, or a job that it
/// runs is to be canceled.
pub const WORKER_CHANNEL: &str = "darkroom_worker";

/// Wakes workers without saying what for.
pub const ANY_MODEL: i64 = 0;

/// Least time between two rounds of notifications of one process.
const COALESCE: Duration = Duration::from_millis(2);
/// The same while there is something to say after each.
const COALESCE_MAX: Duration = Duration::from_millis(20);
/// How long starts wait for other news: few listen to them, and each round wakes every process.
const STARTS_WAIT: Duration = Duration::from_millis(20);
/// A payload holds less than 8000 bytes.
const IDS_PER_PAYLOAD: usize = 240;

#[derive(Debug, Default)]
struct News {
    queued: BTreeSet<i64>,
    started: Vec<JobId>,
    changed: Vec<JobId>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.started.is_empty() && self.changed.is_empty()
    }
}

/// Tells workers what was queued, and waiting clients what changed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    wake: Arc<Notify>,
    /// Of news that may wait for others.
    wake_soon: Arc<Notify>,
    news: Arc<Mutex<News>>,
    /// Held while news are on their way.
    sending: Arc<tokio::sync::Mutex<()>>,
    db: Kept,
}

impl Notifier {
    pub fn start(db: impl Into<Kept>) -> Self {
        let this = Self {
            wake: Arc::default(),
            wake_soon: Arc::default(),
            news: Arc::default(),
            sending: Arc::default(),
            db: db.into(),
        };
        let sender = this.clone();
        tokio::spawn(async move {
            let mut pause = COALESCE;
            loop {
                sender.worth_saying().await;
                sender.flush().await;
                tokio::time::sleep(pause).await;
                // In a stream of news each round wakes every listener of the database: a hundred idle ones halved the
                // rate of submits.
                pause = if sender.news().is_empty() {
                    COALESCE
                } else {
                    (pause * 2).min(COALESCE_MAX)
                };
            }
        });
        this
    }

    async fn worth_saying(&self) {
        let soon = async {
            self.wake_soon.notified().await;
            tokio::time::sleep(STARTS_WAIT).await;
        };
        tokio::select! { () = self.wake.notified() => {} () = soon => {} }
    }

    /// Sends what there is to say, and returns when it has been said: for a process that is about to end.
    pub async fn flush(&self) {
        let _one = self.sending.lock().await;
        let news = std::mem::take(&mut *self.news());
        if news.is_empty() {
            return;
        }
        if let Err(error) = send(&self.db, &news).await {
            tracing::debug!(error.cause = %error, "wake-ups not sent; who waits polls");
        }
    }

    /// Jobs of this model were queued.
    pub fn queued(&self, model_id: i64) {
        self.news().queued.insert(model_id);
        self.wake.notify_one();
    }

    /// A worker began these jobs. Told with the next news, or a little later.
    pub fn started(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut news = self.news();
        news.started.extend(jobs);
        if !news.started.is_empty() {
            self.wake_soon.notify_one();
        }
    }

    /// These jobs ended or went back to the queue.
    pub fn changed(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut news = self.news();
        news.changed.extend(jobs);
        if !news.changed.is_empty() {
            self.wake.notify_one();
        }
    }

    /// These batches ended. An id is an id: they share the channel of the jobs.
    pub fn batches_ended(&self, batches: impl IntoIterator<Item = BatchId>) {
        self.changed(batches.into_iter().map(|batch| batch.uuid().into()));
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().expect("no panic holds it")
    }
}

/// A NOTIFY is a transaction that writes; it need not wait for the disk.
async fn send(db: &Kept, news: &News) -> Result<(), sqlx::Error> {
    let queued = news
        .queued
        .iter()
        .map(|model| (QUEUED_CHANNEL.to_owned(), model.to_string()));
    let started = payloads_of(STARTED_CHANNEL, &news.started);
    let changed = payloads_of(CHANGED_CHANNEL, &news.changed);
    let (channels, payloads): (Vec<_>, Vec<_>) = queued.chain(started).chain(changed).unzip();
    let sent = sqlx::query!(
        "with quick as materialized (select set_config('synchronous_commit', 'off', true))
         select pg_notify(channel, payload) from quick, unnest($1::text[], $2::text[]) as news(channel, payload)",
        &channels,
        &payloads
    );
    db.run(async |db| sent.execute(db).await).await.map(|_| ())
}

fn payloads_of(channel: &str, jobs: &[JobId]) -> impl Iterator<Item = (String, String)> {
    jobs.chunks(IDS_PER_PAYLOAD).map(move |jobs| {
        let ids = jobs.iter().map(|job| job.uuid().simple().to_string());
        (channel.to_owned(), ids.collect())
    })
}
