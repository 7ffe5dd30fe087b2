//! One quantity of one owner: the last count by Postgres, plus what this process has accepted since.

use jobs::db::Db;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jobs::{
    db::answered,
    images,
    queue::{self, QueueError},
};

/// How old a count may be once half of the quota is used.
const COUNT_AGE_MAX_NEAR_LIMIT: Duration = Duration::from_secs(1);
/// How old a count may be before that.
const COUNT_AGE_MAX: Duration = Duration::from_secs(10);
/// How old a count may be that justifies a refusal: jobs may have ended since.
const COUNT_AGE_MAX_FOR_REFUSAL: Duration = Duration::from_millis(50);
/// Between two counts passes at least this many times the duration of a count, so that counting takes 5% of the time at most.
const PAUSE_PER_COUNT: u32 = 20;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    /// Jobs that have not ended.
    Jobs,
    /// Bytes of stored images.
    Bytes,
}

#[derive(Debug)]
pub(super) struct Tally {
    db: Db,
    owner: String,
    what: Counted,
    last_count: Mutex<Option<Count>>,
    /// Accepted and committed by this process; only grows.
    committed: AtomicI64,
    /// Reserved, and not yet committed or given back.
    reserved: AtomicI64,
    /// Held while Postgres counts, so that one count runs at a time.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    at: Instant,
    took: Duration,
    value: i64,
    /// `committed` when the count began.
    committed_before: i64,
}

/// The quota is used up.
#[derive(Debug)]
pub(super) struct Exceeded {
    pub used: i64,
}

/// Room within a quota. Dropped without `commit`, it is given back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation {
    tally: Arc<Tally>,
    amount: i64,
    is_committed: bool,
}

impl Reservation {
    /// Keeps the room, because the job or image is committed: from now on Postgres counts it.
    pub fn commit(mut self) {
        self.is_committed = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_committed {
            self.tally
                .committed
                .fetch_add(self.amount, Ordering::Relaxed);
        }
        self.tally
            .reserved
            .fetch_sub(self.amount, Ordering::Relaxed);
    }
}

impl Tally {
    pub fn new(db: Db, owner: &str, what: Counted) -> Arc<Self> {
        Arc::new(Self {
            db,
            owner: owner.to_owned(),
            what,
            last_count: Mutex::default(),
            committed: AtomicI64::default(),
            reserved: AtomicI64::default(),
            counting: tokio::sync::Mutex::default(),
        })
    }

    /// Reserves `amount`, if at most `max` is used then. Waits for a count only the first time and before a refusal.
    pub async fn reserve(
        self: &Arc<Self>,
        amount: i64,
        max: i64,
    ) -> Result<Result<Reservation, Exceeded>, QueueError> {
        let age_max = if self.used() * 2 < max {
            COUNT_AGE_MAX
        } else {
            COUNT_AGE_MAX_NEAR_LIMIT
        };
        match self.age() {
            None => self.count(age_max).await?,
            Some(age) if age > age_max && self.counting.try_lock().is_ok() => {
                let this = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = this.count(age_max).await {
                        tracing::warn!(error.cause = %error, "cannot count the usage of an owner; the last count stays in use");
                    }
                });
            }
            Some(_) => {}
        }
        if let Some(reservation) = self.take(amount, max) {
            return Ok(Ok(reservation));
        }
        self.count(COUNT_AGE_MAX_FOR_REFUSAL).await?;
        Ok(self
            .take(amount, max)
            .ok_or_else(|| Exceeded { used: self.used() }))
    }

    fn take(self: &Arc<Self>, amount: i64, max: i64) -> Option<Reservation> {
        self.reserved.fetch_add(amount, Ordering::Relaxed);
        let reservation = Reservation {
            tally: self.clone(),
            amount,
            is_committed: false,
        };
        (self.used() <= max).then_some(reservation)
    }

    fn used(&self) -> i64 {
        let last = *self.last_count.lock().expect("no panic holds it");
        let committed = self.committed.load(Ordering::Relaxed);
        let stored = last.map_or(0, |last| last.value + committed - last.committed_before);
        stored + self.reserved.load(Ordering::Relaxed)
    }

    /// The age of the last count, less the pause that its duration demands.
    fn age(&self) -> Option<Duration> {
        let last = *self.last_count.lock().expect("no panic holds it");
        last.map(|last| {
            last.at
                .elapsed()
                .saturating_sub(last.took * PAUSE_PER_COUNT)
        })
    }

    /// Counts in Postgres, unless the last count is at most `age_max` old.
    async fn count(&self, age_max: Duration) -> Result<(), QueueError> {
        let _guard = self.counting.lock().await;
        if self.age().is_some_and(|age| age <= age_max) {
            return Ok(());
        }
        let (committed_before, began) = (self.committed.load(Ordering::Relaxed), Instant::now());
        let value = match self.what {
            Counted::Jobs => answered(&self.db, queue::unended(&self.db, &self.owner)).await?,
            Counted::Bytes => {
                answered(&self.db, images::stored_bytes(&self.db, &self.owner)).await?
            }
        };
        *self.last_count.lock().expect("no panic holds it") = Some(Count {
            at: Instant::now(),
            took: began.elapsed(),
            value,
            committed_before,
        });
        Ok(())
    }
}
