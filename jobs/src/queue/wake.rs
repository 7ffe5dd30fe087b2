//! Wake-ups, the hearing side, each on a connection of its own.
//!
//! A lost connection is opened again in the background; every re-connect counts as news, because what was sent in
//! between is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;
use uuid::Uuid;

use super::notify::{CHANGED_CHANNEL, QUEUED_CHANNEL};
use crate::JobId;

/// Hears of queued jobs.
#[derive(Debug)]
pub struct QueuedListener(Arc<Notify>);

impl QueuedListener {
    pub fn start(db: PgPool) -> Self {
        let news = Arc::new(Notify::new());
        let wake = news.clone();
        tokio::spawn(listen(db, QUEUED_CHANNEL, move |_| wake.notify_one()));
        Self(news)
    }

    /// Returns once something was queued since the last call, or after `longest`.
    pub async fn wait(&self, longest: Duration) {
        drop(tokio::time::timeout(longest, self.0.notified()).await);
    }
}

type Waiters = Mutex<HashMap<JobId, Vec<Arc<Notify>>>>;

/// Hears of changed jobs for everyone who waits for one: one connection, and no query per waiter.
#[derive(Debug, Clone)]
pub struct ChangedListener(Arc<Waiters>);

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
        tokio::spawn(listen(db, CHANGED_CHANNEL, move |payload| {
            let mut waiters = heard.lock().expect("no panic holds it");
            match payload {
                Some(ids) => {
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
        Self(waiters)
    }

    pub fn watch(&self, job: JobId) -> Watch {
        let watch = Watch {
            job,
            wake: Arc::default(),
            waiters: self.0.clone(),
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

/// Hears one channel for as long as the process lives; `None`: something may have been missed.
async fn listen(db: PgPool, channel: &'static str, hear: impl Fn(Option<&str>)) {
    loop {
        if let Err(error) = hear_until_lost(&db, channel, &hear).await {
            tracing::warn!(error.cause = %error, channel, "LISTEN connection lost; polling until it is back");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear_until_lost(
    db: &PgPool,
    channel: &str,
    hear: &impl Fn(Option<&str>),
) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(db).await?;
    listener.listen(channel).await?;
    hear(None);
    while let Some(news) = listener.try_recv().await? {
        hear(Some(news.payload()));
    }
    hear(None);
    Ok(())
}
