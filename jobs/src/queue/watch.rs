//! Waiting for jobs: whoever waits costs a map entry, and no query of its own.
//!
//! News come by LISTEN. Behind lost ones one query every few seconds looks after all waiters of the process together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
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
    notify::{CHANGED_CHANNEL, STARTED_CHANNEL},
    wake::listen,
};
use crate::{
    BatchId, JobId,
    db::{Direct, answered},
};

/// How often the process looks for what no notification told of.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// Jobs that one statement looks at.
const LOOKED_AT_MAX: usize = 2_000;

#[derive(Debug, Default)]
struct Waiter {
    wake: Notify,
    /// Version of the job that it has; 0: it did not say, and looks for itself.
    knows: AtomicI32,
    /// Whether a start is news, or the end alone.
    hears_starts: bool,
}

type Waiters = Mutex<HashMap<JobId, Vec<Arc<Waiter>>>>;

/// Hears of changed jobs for everyone who waits for one: one connection, and no query per waiter.
#[derive(Debug, Clone)]
pub struct ChangedListener {
    waiters: Arc<Waiters>,
    any: watch::Receiver<()>,
}

/// Somebody's wait for one job, from its making on: no change after that is missed.
#[derive(Debug)]
pub struct Watch {
    job: JobId,
    waiter: Arc<Waiter>,
    waiters: Arc<Waiters>,
}

impl ChangedListener {
    /// Hears by a connection of its own, and looks by `db`.
    pub fn start(db: PgPool, direct: Direct) -> Self {
        let (change, any) = watch::channel(());
        let this = Self {
            waiters: Arc::default(),
            any,
        };
        let look_now = Arc::new(Notify::new());
        let (heard, look) = (this.clone(), look_now.clone());
        let hear = move |news: Option<(&str, &str)>| match news {
            Some((STARTED_CHANNEL, ids)) => heard.wake(ids, true),
            Some((_, ids)) => {
                change.send_replace(());
                heard.wake(ids, false);
            }
            // Whatever was missed, one look for all of them finds it.
            None => {
                change.send_replace(());
                heard.wake_those_who_did_not_say();
                look.notify_one();
            }
        };
        let channels = &[CHANGED_CHANNEL, STARTED_CHANNEL];
        tokio::spawn(listen(direct, channels, hear));
        let looked_after = this.clone();
        tokio::spawn(async move {
            loop {
                drop(timeout(LOOKS_EVERY, look_now.notified()).await);
                if let Err(error) = answered(&db, looked_after.look(&db)).await {
                    tracing::debug!(error.cause = %error, "nobody looked after those who wait");
                }
            }
        });
        this
    }

    /// Says that some job ended or went back, or may have.
    pub fn any(&self) -> watch::Receiver<()> {
        self.any.clone()
    }

    /// Hears of every change.
    pub fn watch(&self, job: JobId) -> Watch {
        self.enter(job, true)
    }

    /// Hears of the batch's end; not of its single jobs.
    pub fn watch_batch(&self, batch: BatchId) -> Watch {
        self.watch(batch.uuid().into())
    }

    /// The same for those who wait for the end: not woken when a worker begins.
    pub fn watch_end(&self, job: JobId) -> Watch {
        self.enter(job, false)
    }

    fn enter(&self, job: JobId, hears_starts: bool) -> Watch {
        let waiter = Arc::new(Waiter {
            hears_starts,
            ..Waiter::default()
        });
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        waiters.entry(job).or_default().push(waiter.clone());
        Watch {
            job,
            waiter,
            waiters: self.waiters.clone(),
        }
    }

    /// Wakes those who wait for these jobs: 32 hex digits each.
    fn wake(&self, ids: &str, is_start: bool) {
        let waiters = self.waiters.lock().expect("no panic holds it");
        for id in ids.as_bytes().chunks(32) {
            let id = Uuid::try_parse_ascii(id).map(JobId::from);
            let all = id.ok().and_then(|id| waiters.get(&id));
            all.into_iter()
                .flatten()
                .filter(|one| one.hears_starts || !is_start)
                .for_each(|one| one.wake.notify_one());
        }
    }

    fn wake_those_who_did_not_say(&self) {
        let waiters = self.waiters.lock().expect("no panic holds it");
        let all = waiters.values().flatten();
        all.filter(|one| one.knows.load(Ordering::Relaxed) == 0)
            .for_each(|one| one.wake.notify_one());
    }

    /// Wakes those whose job is not any more what they know.
    async fn look(&self, db: &PgPool) -> Result<(), QueueError> {
        let said = |one: &Arc<Waiter>| one.knows.load(Ordering::Relaxed) != 0;
        let ids: Vec<_> = {
            let waiters = self.waiters.lock().expect("no panic holds it");
            let known = waiters.iter().filter(|(_, all)| all.iter().any(said));
            known.map(|(id, _)| id.uuid()).collect()
        };
        metrics::gauge!("darkroom_waited_jobs").set(ids.len() as f64);
        for ids in ids.chunks(LOOKED_AT_MAX) {
            let versions = live_versions(db, ids).await?;
            let waiters = self.waiters.lock().expect("no panic holds it");
            for id in ids.iter().copied().map(JobId::from) {
                let version = versions.get(&id).copied();
                let all = waiters.get(&id).into_iter().flatten();
                all.filter(|one| said(one) && Some(one.knows.load(Ordering::Relaxed)) != version)
                    .for_each(|one| one.wake.notify_one());
            }
        }
        Ok(())
    }
}

/// Of jobs that have not ended; one that is not among them has.
async fn live_versions(db: &PgPool, ids: &[Uuid]) -> Result<HashMap<JobId, i32>, QueueError> {
    let rows = sqlx::query!(
        "select job_id, version from live_jobs where job_id = any($1)",
        ids
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    Ok(rows.map(|row| (row.job_id.into(), row.version)).collect())
}

impl Watch {
    /// From now on the process looks whether the job is still of this version, so that the waiter need not.
    pub fn knows(&self, version: i32) {
        self.waiter.knows.store(version, Ordering::Relaxed);
    }

    /// Returns once the job changed since the last call, or after `longest`. Whoever has not said what it
    /// [knows](Self::knows) has to look for itself now and then: a notification may be lost.
    pub async fn changed(&self, longest: Duration) {
        drop(timeout(longest, self.waiter.wake.notified()).await);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        if let Some(all) = waiters.get_mut(&self.job) {
            all.retain(|one| !Arc::ptr_eq(one, &self.waiter));
            if all.is_empty() {
                waiters.remove(&self.job);
            }
        }
    }
}
