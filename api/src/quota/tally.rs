//! One thing of one owner, counted: what the database said last, and what this process let in since.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{
    db::{Db, answered},
    images,
    queue::{self, QueueError},
};

/// A count is good for this long when the cap may be near.
const NEAR: Duration = Duration::from_secs(1);
/// And for this long when not even half of it is used.
const FAR: Duration = Duration::from_secs(10);
/// Before a refusal the count may be no older than this: jobs have ended meanwhile.
const BEFORE_A_REFUSAL: Duration = Duration::from_millis(50);
/// Counting takes no more than this part of the time, however much there is to count.
const PART: u32 = 20;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// Jobs that have not ended.
    Jobs,
    /// Bytes of stored images.
    Bytes,
}

#[derive(Debug)]
pub(super) struct Tally {
    db: Db,
    owner: String,
    what: What,
    counted: Mutex<Option<Counted>>,
    /// Let in and committed by this process; only grows.
    landed: AtomicI64,
    /// Let in, and not yet committed or given up.
    in_flight: AtomicI64,
    /// Held by the one who counts.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Instant,
    took: Duration,
    value: i64,
    /// `landed` when the count began.
    landed: i64,
}

/// The cap is reached.
#[derive(Debug)]
pub(super) struct Full {
    pub used: i64,
}

/// A place under the cap; given back unless what it is for was committed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reserved {
    tally: Arc<Tally>,
    amount: i64,
    landed: bool,
}

impl Reserved {
    /// What the place was for is committed: from now on the database counts it.
    pub fn landed(mut self) {
        self.landed = true;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.landed {
            self.tally.landed.fetch_add(self.amount, Ordering::Relaxed);
        }
        self.tally
            .in_flight
            .fetch_sub(self.amount, Ordering::Relaxed);
    }
}

impl Tally {
    pub fn new(db: Db, owner: &str, what: What) -> Arc<Self> {
        Arc::new(Self {
            db,
            owner: owner.to_owned(),
            what,
            counted: Mutex::default(),
            landed: AtomicI64::default(),
            in_flight: AtomicI64::default(),
            counting: tokio::sync::Mutex::default(),
        })
    }

    /// Takes a place of this size, if the cap leaves one. Waits for a count only at first and before a refusal.
    pub async fn reserve(
        self: &Arc<Self>,
        amount: i64,
        max: i64,
    ) -> Result<Result<Reserved, Full>, QueueError> {
        let good_for = if self.used() * 2 < max { FAR } else { NEAR };
        match self.age() {
            None => self.count(good_for).await?,
            Some(age) if age > good_for && self.counting.try_lock().is_ok() => {
                let this = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = this.count(good_for).await {
                        tracing::warn!(error.cause = %error, "an owner's usage was not counted; the last count serves");
                    }
                });
            }
            Some(_) => {}
        }
        if let Some(reserved) = self.take(amount, max) {
            return Ok(Ok(reserved));
        }
        self.count(BEFORE_A_REFUSAL).await?;
        Ok(self
            .take(amount, max)
            .ok_or_else(|| Full { used: self.used() }))
    }

    fn take(self: &Arc<Self>, amount: i64, max: i64) -> Option<Reserved> {
        self.in_flight.fetch_add(amount, Ordering::Relaxed);
        let reserved = Reserved {
            tally: self.clone(),
            amount,
            landed: false,
        };
        (self.used() <= max).then_some(reserved)
    }

    fn used(&self) -> i64 {
        let counted = *self.counted.lock().expect("no panic holds it");
        let landed = self.landed.load(Ordering::Relaxed);
        let since = counted.map_or(0, |counted| counted.value + landed - counted.landed);
        since + self.in_flight.load(Ordering::Relaxed)
    }

    /// How old the last count is, less what counting itself asks for.
    fn age(&self) -> Option<Duration> {
        let counted = *self.counted.lock().expect("no panic holds it");
        counted.map(|counted| counted.at.elapsed().saturating_sub(counted.took * PART))
    }

    /// Asks the database, unless somebody has within `good_for`.
    async fn count(&self, good_for: Duration) -> Result<(), QueueError> {
        let _one = self.counting.lock().await;
        if self.age().is_some_and(|age| age <= good_for) {
            return Ok(());
        }
        let (landed, began) = (self.landed.load(Ordering::Relaxed), Instant::now());
        let value = match self.what {
            What::Jobs => answered(&self.db, queue::unended(&self.db, &self.owner)).await?,
            What::Bytes => answered(&self.db, images::stored_bytes(&self.db, &self.owner)).await?,
        };
        *self.counted.lock().expect("no panic holds it") = Some(Counted {
            at: Instant::now(),
            took: began.elapsed(),
            value,
            landed,
        });
        Ok(())
    }
}
