//! Who waits for the feed to grow: one query a process for all of them, and only when something changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use crate::db::answered;

/// Behind lost notifications: how often to look for those who wait.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// Least time between two looks.
const COALESCE: Duration = Duration::from_millis(10);
/// Until the next look at what is committed but may not be served yet, since an older transaction still runs; doubles.
const HELD_BACK: Duration = Duration::from_millis(50);

type Waiters = Mutex<HashMap<Arc<str>, Vec<Arc<Notify>>>>;

/// Wakes owners who wait for their feed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeedListener {
    waiters: Arc<Waiters>,
    entered: Arc<Notify>,
}

/// Somebody's wait for an owner's events, from its making on: none after that is missed.
#[derive(Debug)]
pub struct FeedWatch {
    owner: Arc<str>,
    wake: Arc<Notify>,
    waiters: Arc<Waiters>,
}

impl FeedListener {
    /// `changes` says that some job of anybody changed.
    pub fn start(db: PgPool, mut changes: watch::Receiver<()>) -> Self {
        let this = Self {
            waiters: Arc::default(),
            entered: Arc::default(),
        };
        let FeedListener { waiters, entered } = this.clone();
        tokio::spawn(async move {
            let mut seen = None;
            let mut pause = HELD_BACK;
            loop {
                let owners = owners(&waiters);
                if owners.is_empty() {
                    // Whoever comes looks for itself first: there is nothing to remember until then.
                    seen = None;
                    entered.notified().await;
                    continue;
                }
                let mut longest = LOOKS_EVERY;
                match answered(&db, look(&db, &owners, seen.unwrap_or(i64::MAX))).await {
                    Ok(look) => {
                        // Without a look before, anyone may have missed something.
                        wake(
                            &waiters,
                            if seen.is_some() {
                                &look.owners
                            } else {
                                &owners
                            },
                        );
                        if look.held_back || seen.is_none() {
                            longest = pause;
                            pause = LOOKS_EVERY.min(pause * 2);
                        } else {
                            pause = HELD_BACK;
                        }
                        seen = Some(look.horizon);
                    }
                    Err(error) => tracing::warn!(error.cause = %error, "cannot look at the feed"),
                }
                tokio::time::sleep(COALESCE).await;
                // The sender ends with the process.
                drop(timeout(longest, changes.changed()).await);
            }
        });
        this
    }

    pub fn watch(&self, owner: &str) -> FeedWatch {
        let watch = FeedWatch {
            owner: owner.into(),
            wake: Arc::default(),
            waiters: self.waiters.clone(),
        };
        let mut waiters = self.waiters.lock().expect("no panic holds it");
        let all = waiters.entry(watch.owner.clone()).or_default();
        all.push(watch.wake.clone());
        self.entered.notify_one();
        watch
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
        if let Some(all) = waiters.get_mut(&self.owner) {
            all.retain(|one| !Arc::ptr_eq(one, &self.wake));
            if all.is_empty() {
                waiters.remove(&self.owner);
            }
        }
    }
}

fn owners(waiters: &Waiters) -> Vec<String> {
    let waiters = waiters.lock().expect("no panic holds it");
    waiters.keys().map(|owner| owner.as_ref().into()).collect()
}

fn wake(waiters: &Waiters, owners: &[String]) {
    let waiters = waiters.lock().expect("no panic holds it");
    let woken = owners
        .iter()
        .filter_map(|owner| waiters.get(owner.as_str()));
    woken.flatten().for_each(|one| one.notify_one());
}

struct Look {
    /// Who has events that the look before did not see.
    owners: Vec<String>,
    /// Everything below has been seen.
    horizon: i64,
    /// Whether there are events that may not be served yet.
    held_back: bool,
}

async fn look(db: &PgPool, owners: &[String], seen: i64) -> Result<Look, sqlx::Error> {
    sqlx::query_file_as!(Look, "src/events/tail.sql", owners, seen)
        .fetch_one(db)
        .await
}
