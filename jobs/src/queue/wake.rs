//! Wake-ups, the hearing side: one connection a process, beside its pool.
//!
//! A lost connection is opened again in the background; every re-connect counts as news, because what was sent in
//! between is gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{Executor, postgres::PgListener};
use tokio::{sync::Notify, time::timeout};

use super::notify::{QUEUED_CHANNEL, WORKER_CHANNEL};
use crate::{
    WorkerId,
    db::{Direct, advised},
};

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
    pub fn start(db: impl Into<Direct>) -> Self {
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
        let channels = &[QUEUED_CHANNEL, WORKER_CHANNEL];
        tokio::spawn(listen(db.into(), channels, hear));
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

/// Hears channels and payloads for as long as the process lives; `None`: something may have been missed.
pub(super) async fn listen(
    db: Direct,
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
    db: &Direct,
    channels: &[&str],
    hear: &impl Fn(Option<(&str, &str)>),
) -> Result<(), sqlx::Error> {
    // A pool of its own each time: a dead connection may take long to notice that it is, and nobody waits for it.
    let own = db.one_connection(PATIENCE);
    let listener = PgListener::connect_with(&own).await;
    let mut listener = listener.map_err(advised)?;
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
