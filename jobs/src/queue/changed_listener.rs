//! Waits for changes of jobs. A waiter costs an entry of a map, and no query of its own.
//!
//! Changes come by LISTEN. In case a notification was lost, one query every few seconds checks the jobs of all waiters.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{
    QueueError,
    listen::{Received, start_listening},
    notify::{CHANGED_CHANNEL, STARTED_CHANNEL},
};
use crate::{
    BatchId, JobId,
    db::{Db, DirectConnector, answered},
    tasks,
};

/// How often the process checks the jobs of all waiters.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Most jobs that one statement checks.
const CHECKED_MAX: usize = 2_000;

#[derive(Debug, Default)]
struct Waiter {
    wake: Notify,
    /// Version of the job that the waiter has; 0: unknown, the waiter polls by itself.
    known_version: AtomicI32,
    /// Whether the start of the job wakes the waiter, or the end alone.
    hears_starts: bool,
}

impl Waiter {
    fn known_version(&self) -> Option<i32> {
        let version = self.known_version.load(Ordering::Relaxed);
        (version != 0).then_some(version)
    }
}

type Waiters = HashMap<JobId, Vec<Arc<Waiter>>>;

/// Wakes all waiters of a process when their jobs change, with one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChangedListener {
    waiters: Arc<Mutex<Waiters>>,
    any: watch::Receiver<()>,
}

/// One wait for one job. No change after its creation is missed.
#[derive(Debug)]
pub struct JobWatch {
    job: JobId,
    waiter: Arc<Waiter>,
    waiters: Arc<Mutex<Waiters>>,
}

impl ChangedListener {
    /// Listens through `direct`, and checks the jobs of waiters through `db`.
    pub fn start(db: Db, direct: DirectConnector) -> Self {
        let (change, any) = watch::channel(());
        let listener = Self {
            waiters: Arc::default(),
            any,
        };
        let check_now = Arc::new(Notify::new());
        let (woken, check) = (listener.clone(), check_now.clone());
        let on_received = move |received: Received<'_>| match received {
            Received::Notification {
                channel: STARTED_CHANNEL,
                payload: ids,
            } => woken.wake(ids, true),
            Received::Notification { payload: ids, .. } => {
                change.send_replace(());
                woken.wake(ids, false);
            }
            // One check of all jobs finds what was lost.
            Received::Gap => {
                change.send_replace(());
                woken.wake_without_version();
                check.notify_one();
            }
        };
        let channels = &[CHANGED_CHANNEL, STARTED_CHANNEL];
        start_listening("changed listener", direct, channels, on_received);
        let checked = listener.clone();
        tasks::restart("check of waited jobs", move || {
            let (checked, db, check_now) = (checked.clone(), db.clone(), check_now.clone());
            async move {
                loop {
                    drop(timeout(CHECK_EVERY, check_now.notified()).await);
                    if let Err(error) = answered(&db, checked.check(&db)).await {
                        tracing::debug!(error.cause = %error, "cannot check the jobs that clients wait for");
                    }
                }
            }
        });
        listener
    }

    /// Changes whenever a job ended or went back to the queue, or may have.
    pub fn any(&self) -> watch::Receiver<()> {
        self.any.clone()
    }

    /// Waits for every change of a job.
    pub fn watch(&self, job: JobId) -> JobWatch {
        self.enter(job, true)
    }

    /// Waits for the end of a batch, not of its jobs.
    pub fn watch_batch(&self, batch: BatchId) -> JobWatch {
        self.watch(batch.uuid().into())
    }

    /// Waits for the end of a job: its start wakes nothing.
    pub fn watch_end(&self, job: JobId) -> JobWatch {
        self.enter(job, false)
    }

    fn enter(&self, job: JobId, hears_starts: bool) -> JobWatch {
        let waiter = Arc::new(Waiter {
            hears_starts,
            ..Waiter::default()
        });
        self.waiters().entry(job).or_default().push(waiter.clone());
        JobWatch {
            job,
            waiter,
            waiters: self.waiters.clone(),
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().expect("no panic holds it")
    }

    /// Wakes the waiters of these jobs: 32 hex digits each.
    fn wake(&self, ids: &str, is_start: bool) {
        let waiters = self.waiters();
        for id in ids.as_bytes().chunks(32) {
            let id = Uuid::try_parse_ascii(id).map(JobId::from);
            let of_job = id.ok().and_then(|id| waiters.get(&id));
            of_job
                .into_iter()
                .flatten()
                .filter(|waiter| waiter.hears_starts || !is_start)
                .for_each(|waiter| waiter.wake.notify_one());
        }
    }

    /// Wakes the waiters that [`check`](Self::check) cannot serve.
    fn wake_without_version(&self) {
        let waiters = self.waiters();
        let all = waiters.values().flatten();
        all.filter(|waiter| waiter.known_version().is_none())
            .for_each(|waiter| waiter.wake.notify_one());
    }

    /// Wakes the waiters whose job has another version than they know.
    async fn check(&self, db: &PgPool) -> Result<(), QueueError> {
        let has_version = |waiter: &Arc<Waiter>| waiter.known_version().is_some();
        let ids: Vec<_> = {
            let waiters = self.waiters();
            let with_version = waiters
                .iter()
                .filter(|(_, of_job)| of_job.iter().any(has_version));
            with_version.map(|(id, _)| id.uuid()).collect()
        };
        metrics::gauge!("darkroom_waited_jobs").set(ids.len() as f64);
        for ids in ids.chunks(CHECKED_MAX) {
            let versions = live_versions(db, ids).await?;
            let waiters = self.waiters();
            for id in ids.iter().copied().map(JobId::from) {
                let version = versions.get(&id).copied();
                let of_job = waiters.get(&id).into_iter().flatten();
                of_job
                    .filter(|waiter| has_version(waiter) && waiter.known_version() != version)
                    .for_each(|waiter| waiter.wake.notify_one());
            }
        }
        Ok(())
    }
}

/// Versions of the jobs that have not ended. A job that is missing here has ended.
async fn live_versions(db: &PgPool, ids: &[Uuid]) -> Result<HashMap<JobId, i32>, QueueError> {
    let rows = sqlx::query!(
        "select job_id, version from live_jobs where job_id = any($1)",
        ids
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    Ok(rows.map(|row| (row.job_id.into(), row.version)).collect())
}

impl JobWatch {
    /// The waiter has this version of the job. From now on the process checks for another one, so the waiter need not poll.
    pub fn knows(&self, version: i32) {
        self.waiter.known_version.store(version, Ordering::Relaxed);
    }

    /// Returns once the job changed since the last call, or after `longest`: whether it changed. A waiter that did not call
    /// [`knows`](Self::knows) has to poll now and then, because a notification may be lost.
    pub async fn changed(&self, longest: Duration) -> bool {
        timeout(longest, self.waiter.wake.notified()).await.is_ok()
    }
}

impl Drop for JobWatch {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        if let Some(of_job) = waiters.get_mut(&self.job) {
            of_job.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
            if of_job.is_empty() {
                waiters.remove(&self.job);
            }
        }
    }
}
