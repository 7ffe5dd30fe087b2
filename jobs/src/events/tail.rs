//! Waits for the feed to grow: one query a process for all waiters, and only when a job has changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::{
    backoff::Backoff,
    db::{Db, answered},
    tasks,
};

/// How often to query the feed without a notification: one may be lost.
const QUERY_EVERY: Duration = Duration::from_secs(5);
/// Least time between two queries.
const COALESCE: Duration = Duration::from_millis(10);
/// First pause while committed events are held back, because an older transaction still runs.
const HELD_BACK_PAUSE: Duration = Duration::from_millis(50);

type Waiters = HashMap<Arc<str>, Vec<Arc<Notify>>>;

/// Wakes the clients that wait for their owner's feed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeedListener {
    waiters: Arc<Mutex<Waiters>>,
    entered: Arc<Notify>,
}

/// One wait for an owner's events. No event after its creation is missed.
#[derive(Debug)]
pub struct FeedWatch {
    owner: Arc<str>,
    wake: Arc<Notify>,
    waiters: Arc<Mutex<Waiters>>,
}

impl FeedListener {
    /// `changes` changes when a job of any owner has changed.
    pub fn start(db: Db, changes: watch::Receiver<()>) -> Self {
        let listener = Self {
            waiters: Arc::default(),
            entered: Arc::default(),
        };
        let runner = listener.clone();
        tasks::restart("feed listener", move || {
            runner.clone().run(db.clone(), changes.clone())
        });
        listener
    }

    async fn run(self, db: Db, mut changes: watch::Receiver<()>) {
        let mut seen = None;
        let mut held_back = Backoff::new(HELD_BACK_PAUSE, QUERY_EVERY);
        loop {
            let owners = self.owners();
            if owners.is_empty() {
                // A new waiter reads the feed before it waits, so there is nothing to remember for it.
                seen = None;
                self.entered.notified().await;
                continue;
            }
            let mut longest = QUERY_EVERY;
            match answered(&db, query(&db, &owners, seen.unwrap_or(i64::MAX))).await {
                Ok(growth) => {
                    // The first query has nothing to compare with: any owner may have missed an event.
                    // So it is after a restore, where transaction ids begin anew.
                    let is_first = seen.is_none_or(|seen| growth.horizon < seen);
                    self.wake(if is_first { &owners } else { &growth.owners });
                    if growth.held_back || is_first {
                        longest = held_back.next_pause();
                    } else {
                        held_back.reset();
                    }
                    seen = Some(growth.horizon);
                }
                Err(error) => tracing::warn!(error.cause = %error, "cannot query the feed"),
            }
            tokio::time::sleep(COALESCE).await;
            // The sender lives as long as the process.
            drop(timeout(longest, changes.changed()).await);
        }
    }

    pub fn watch(&self, owner: &str) -> FeedWatch {
        let watch = FeedWatch {
            owner: owner.into(),
            wake: Arc::default(),
            waiters: self.waiters.clone(),
        };
        let mut waiters = self.waiters();
        let of_owner = waiters.entry(watch.owner.clone()).or_default();
        of_owner.push(watch.wake.clone());
        self.entered.notify_one();
        watch
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().expect("no panic holds it")
    }

    fn owners(&self) -> Vec<String> {
        let waiters = self.waiters();
        waiters.keys().map(|owner| owner.as_ref().into()).collect()
    }

    fn wake(&self, owners: &[String]) {
        let waiters = self.waiters();
        let woken = owners
            .iter()
            .filter_map(|owner| waiters.get(owner.as_str()));
        woken.flatten().for_each(|waiter| waiter.notify_one());
    }
}

impl FeedWatch {
    /// Returns once there are new events since the last call, or after `longest`.
    pub async fn grown(&self, longest: Duration) {
        drop(timeout(longest, self.wake.notified()).await);
    }
}

impl Drop for FeedWatch {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        if let Some(of_owner) = waiters.get_mut(&self.owner) {
            of_owner.retain(|waiter| !Arc::ptr_eq(waiter, &self.wake));
            if of_owner.is_empty() {
                waiters.remove(&self.owner);
            }
        }
    }
}

/// How the feeds grew since the last query.
struct FeedGrowth {
    /// Owners with events that the last query did not see.
    owners: Vec<String>,
    /// All events below have been seen.
    horizon: i64,
    /// Whether there are events that may not be served yet.
    held_back: bool,
}

async fn query(db: &PgPool, owners: &[String], seen: i64) -> Result<FeedGrowth, sqlx::Error> {
    sqlx::query_file_as!(FeedGrowth, "src/events/tail.sql", owners, seen)
        .fetch_one(db)
        .await
}
