//! Wake-ups, the hearing side: one connection a process, beside its pool.
//!
//! A lost connection is opened again in the background; every re-connect counts as news, because what was sent in
//! between is gone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Executor, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use uuid::Uuid;

use super::notify::{CHANGED_CHANNEL, QUEUED_CHANNEL, WORKER_CHANNEL};
use crate::{JobId, WorkerId};

/// A connection that has said nothing for so long is asked whether it still lives: half-open ones never say so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection may take to open, or to answer that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Ears {
    queued: Notify,
    asked: Notify,
    /// Row id of the worker whose asks are heard; 0: nobody's.
    worker: AtomicI64,
}

/// Hears what concerns a worker: of queued jobs, and of what is asked of itself.
#[derive(Debug, Clone)]
pub struct WorkerListener(Arc<Ears>);

impl WorkerListener {
    pub fn start(db: PgPool) -> Self {
        let ears: Arc<Ears> = Arc::default();
        let heard = ears.clone();
        let hear = move |news: Option<(&str, &str)>| match news {
            Some((QUEUED_CHANNEL, _)) => heard.queued.notify_one(),
            Some((_, worker)) => {
                if worker.parse() == Ok(heard.worker.load(Ordering::Acquire)) {
                    heard.asked.notify_one();
                }
            }
            None => {
                heard.queued.notify_one();
                heard.asked.notify_one();
            }
        };
        tokio::spawn(listen(db, &[QUEUED_CHANNEL, WORKER_CHANNEL], hear));
        Self(ears)
    }

    /// From now on hears what is asked of this worker.
    pub fn is(&self, worker: WorkerId) {
        self.0.worker.store(worker.0, Ordering::Release);
    }

    /// Returns once something was queued since the last call, or after `longest`.
    pub async fn queued(&self, longest: Duration) {
        drop(timeout(longest, self.0.queued.notified()).await);
    }

    /// Returns once the worker was asked for something since the last call, or after `longest`.
    pub async fn asked(&self, longest: Duration) {
        drop(timeout(longest, self.0.asked.notified()).await);
    }
}

type Waiters = Mutex<HashMap<JobId, Vec<Arc<Notify>>>>;

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
    wake: Arc<Notify>,
    waiters: Arc<Waiters>,
}

impl ChangedListener {
    pub fn start(db: PgPool) -> Self {
        let waiters: Arc<Waiters> = Arc::default();
        let heard = waiters.clone();
        let (change, any) = watch::channel(());
        tokio::spawn(listen(db, &[CHANGED_CHANNEL], move |news| {
            change.send_replace(());
            let mut waiters = heard.lock().expect("no panic holds it");
            match news {
                Some((_, ids)) => {
                    for id in ids.as_bytes().chunks(32) {
                        let id = Uuid::try_parse_ascii(id).map(JobId::from);
                        let woken = id.ok().and_then(|id| waiters.remove(&id));
                        woken
                            .into_iter()
                            .flatten()
                            .for_each(|waiter| waiter.notify_one());
                    }
                }
                None => waiters
                    .drain()
                    .flat_map(|(_, all)| all)
                    .for_each(|one| one.notify_one()),
            }
        }));
        Self { waiters, any }
    }

    /// Says that some job changed, or may have.
    pub fn any(&self) -> watch::Receiver<()> {
        self.any.clone()
    }

    pub fn watch(&self, job: JobId) -> Watch {
        let watch = Watch {
            job,
            wake: Arc::default(),
            waiters: self.waiters.clone(),
        };
        watch.enter();
        watch
    }
}

impl Watch {
    fn enter(&self) {
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        waiters.entry(self.job).or_default().push(self.wake.clone());
    }

    fn leave(&self) {
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        if let Some(all) = waiters.get_mut(&self.job) {
            all.retain(|one| !Arc::ptr_eq(one, &self.wake));
            if all.is_empty() {
                waiters.remove(&self.job);
            }
        }
    }

    /// Returns once the job changed since the last call, or after `longest`.
    pub async fn changed(&self, longest: Duration) {
        drop(tokio::time::timeout(longest, self.wake.notified()).await);
        self.leave();
        self.enter();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Hears channels and payloads for as long as the process lives; `None`: something may have been missed.
async fn listen(
    db: PgPool,
    channels: &'static [&'static str],
    hear: impl Fn(Option<(&str, &str)>),
) {
    loop {
        if let Err(error) = hear_until_lost(&db, channels, &hear).await {
            tracing::warn!(error.cause = %error, ?channels, "LISTEN connection lost; polling until it is back");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear_until_lost(
    db: &PgPool,
    channels: &[&str],
    hear: &impl Fn(Option<(&str, &str)>),
) -> Result<(), sqlx::Error> {
    // A pool of its own each time: a dead connection may take long to notice that it is, and nobody waits for it.
    let own = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(db.connect_options().as_ref().clone());
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    let listening = timeout(PATIENCE, listener.listen_all(channels.iter().copied())).await;
    listening.map_err(|_| sqlx::Error::PoolTimedOut)??;
    hear(None);
    loop {
        match timeout(KEEP_ALIVE, listener.try_recv()).await {
            Ok(Ok(Some(news))) => hear(Some((news.channel(), news.payload()))),
            Ok(lost) => {
                hear(None);
                return lost.map(drop);
            }
            Err(_) => {
                let alive = timeout(PATIENCE, listener.execute("select 1")).await;
                alive.map_err(|_| sqlx::Error::PoolTimedOut)??;
            }
        }
    }
}
