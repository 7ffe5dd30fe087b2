//! How many bytes of request bodies may be on the way at once: in this process, and for each API key.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use jobs::ProblemCode;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::error::ApiError;
use crate::config::Limits;

/// The bytes of request bodies that have arrived and are not stored yet.
///
/// A request that finds no room waits for a bounded time. Then it is refused: with 429 if its own key uses too much, with 503
/// if all keys together do.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    process_bytes_max: u64,
    key_bytes_max: u64,
    wait_max: Duration,
    used: Mutex<Used>,
    freed: Notify,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Used {
    process: u64,
    keys: HashMap<Arc<str>, u64>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exceeded {
    Key,
    Process,
}

/// The part of the budget that one request uses. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: Arc<BodyBudget>,
    key: Arc<str>,
    /// Bytes that count for this request. At least `arrived`.
    reserved: AtomicU64,
    arrived: AtomicU64,
}

impl BodyBudget {
    pub fn new(limits: &Limits) -> Self {
        Self {
            process_bytes_max: limits.bodies_bytes_max,
            key_bytes_max: limits.key_bodies_bytes_max,
            wait_max: Duration::from_millis(limits.bodies_wait_ms),
            used: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A share without bytes.
    pub fn share(self: &Arc<Self>, key_id: &str) -> BodyShare {
        BodyShare {
            budget: self.clone(),
            key: key_id.into(),
            reserved: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes to a request that has `held`. A request that is alone always finds room: it may be larger than the budget.
    fn add(&self, key: &Arc<str>, held: u64, bytes: u64) -> Result<(), Exceeded> {
        let mut used = self.used();
        let of_key = used.keys.get(key).copied().unwrap_or(0);
        if of_key > held && of_key + bytes > self.key_bytes_max {
            return Err(Exceeded::Key);
        }
        if used.process > held && used.process + bytes > self.process_bytes_max {
            return Err(Exceeded::Process);
        }
        used.process += bytes;
        *used.keys.entry(key.clone()).or_default() += bytes;
        Ok(())
    }

    fn give_back(&self, key: &Arc<str>, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut used = self.used();
        used.process -= bytes;
        if let Some(of_key) = used.keys.get_mut(key) {
            *of_key -= bytes;
            if *of_key == 0 {
                used.keys.remove(key);
            }
        }
        drop(used);
        self.freed.notify_waiters();
    }

    fn refusal(&self, exceeded: Exceeded) -> ApiError {
        let error = match exceeded {
            Exceeded::Key => {
                let detail = format!(
                    "the request bodies of this API key that are on the way may have {} bytes together: let some of them end",
                    self.key_bytes_max
                );
                ApiError::new(ProblemCode::RateLimited, detail)
            }
            Exceeded::Process => {
                let detail = "more bytes of request bodies are on the way than this process takes; nothing was stored, try again";
                ApiError::new(ProblemCode::QueueFull, detail)
            }
        };
        error.retry_after(1)
    }
}

impl BodyShare {
    /// Reserves room for a body of announced length, before any of it is read.
    ///
    /// # Errors
    /// `rate_limited` (429) or `queue_full` (503): no room in time.
    pub async fn reserve(&self, bytes: u64) -> Result<(), ApiError> {
        let missing = bytes.saturating_sub(self.reserved.load(Relaxed));
        if missing == 0 {
            return Ok(());
        }
        self.wait_for(missing).await?;
        self.reserved.fetch_add(missing, Relaxed);
        Ok(())
    }

    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// As of [`Self::reserve`].
    pub async fn arrived(&self, bytes: usize) -> Result<(), ApiError> {
        let arrived = self.arrived.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        self.reserve(arrived).await
    }

    /// Gives back all bytes but these.
    pub fn keep(&self, bytes: u64) {
        let reserved = self.reserved.load(Relaxed);
        let kept = bytes.min(reserved);
        self.reserved.store(kept, Relaxed);
        self.arrived.store(kept, Relaxed);
        self.budget.give_back(&self.key, reserved - kept);
    }

    /// Whether any request waits for room.
    pub fn others_wait(&self) -> bool {
        self.budget.waiting.load(Relaxed) > 0
    }

    async fn wait_for(&self, bytes: u64) -> Result<(), ApiError> {
        let (budget, held) = (&self.budget, self.reserved.load(Relaxed));
        if budget.add(&self.key, held, bytes).is_ok() {
            return Ok(());
        }
        let _waiting = Waiting::count(&budget.waiting);
        let until = Instant::now() + budget.wait_max;
        loop {
            // Listens before it looks, so that no release is missed.
            let mut freed = std::pin::pin!(budget.freed.notified());
            freed.as_mut().enable();
            let Err(exceeded) = budget.add(&self.key, held, bytes) else {
                return Ok(());
            };
            if timeout_at(until, freed).await.is_err() {
                return Err(budget.refusal(exceeded));
            }
        }
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Counts one waiting request until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex, atomic::AtomicUsize},
        time::Duration,
    };

    use tokio::sync::Notify;

    use super::{BodyBudget, BodyShare};

    fn budget(wait_ms: u64) -> Arc<BodyBudget> {
        Arc::new(BodyBudget {
            process_bytes_max: 100,
            key_bytes_max: 60,
            wait_max: Duration::from_millis(wait_ms),
            used: Mutex::default(),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
        })
    }

    async fn share(budget: &Arc<BodyBudget>, key: &str, bytes: u64) -> BodyShare {
        let share = budget.share(key);
        share.reserve(bytes).await.expect("there is room");
        share
    }

    #[tokio::test]
    async fn a_key_and_the_process_have_a_limit_each() {
        let budget = budget(0);
        let _first = share(&budget, "a", 40).await;
        let full = budget.share("a").reserve(30).await.expect_err("a is full");
        assert!(full.to_string().starts_with("rate_limited"), "{full}");
        let _second = share(&budget, "b", 50).await;
        let full = budget.share("c").reserve(20).await;
        let full = full.expect_err("the process is full");
        assert!(full.to_string().starts_with("queue_full"), "{full}");
        let _third = share(&budget, "c", 10).await;
    }

    #[tokio::test]
    async fn what_arrives_counts_once_and_comes_back() {
        let budget = budget(0);
        let announced = share(&budget, "a", 50).await;
        for _ in 0..5 {
            announced.arrived(10).await.expect("was announced");
        }
        let next = budget.share("a");
        next.arrived(10).await.expect("60 in all");
        next.arrived(1).await.expect_err("61 in all");
        announced.keep(20);
        next.arrived(29).await.expect("there is room again");
        drop((announced, next));
        let used = budget.used();
        assert_eq!((used.process, used.keys.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_single_body_may_be_larger_than_the_budget() {
        let budget = budget(0);
        let alone = share(&budget, "a", 1000).await;
        budget.share("b").reserve(1).await.expect_err("full");
        drop(alone);
        drop(share(&budget, "b", 1).await);
    }

    #[tokio::test]
    async fn a_request_waits_until_another_one_ends() {
        let budget = budget(60_000);
        let first = share(&budget, "a", 60).await;
        let waiting = tokio::spawn({
            let next = budget.share("a");
            async move { next.reserve(10).await.is_ok() }
        });
        while !first.others_wait() {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert!(waiting.await.expect("runs"));
    }
}
