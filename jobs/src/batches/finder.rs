use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Batch, BatchHead, find, find_head};
use crate::{
    BatchId,
    db::{Db, Reads},
    queue::QueueError,
};

/// Counts of so many lines that took so long to read are shared with later callers too, as long as the row of the batch is
/// unchanged.
const COSTLY_LINES: i64 = 1_000;
const COSTLY: Duration = Duration::from_millis(10);
/// A waiter takes a reading up to this age.
const WAITERS_READ_EVERY: Duration = Duration::from_secs(1);
/// Readings of one batch take this part of the time at most, however many callers there are.
const SHARE: u32 = 10;
/// No reading is older than this.
const AGE_MAX: Duration = Duration::from_secs(10);
/// Readings are forgotten when there are more than this number and no caller waits for them.
const KEPT: usize = 1_000;

/// Reads batches for all callers of a process. To count the jobs of a batch of 50,000 lines takes 30 ms, so callers that want the
/// same batch share a reading. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BatchFinder {
    /// For the row of a batch, by its key.
    db: Db,
    /// For the counts.
    reads: Reads,
    readings: Arc<Mutex<HashMap<Key, Arc<Slot>>>>,
    read: Arc<AtomicU64>,
}

type Key = (BatchId, String);
/// The latest reading of one batch. Locked while the batch is read.
type Slot = tokio::sync::Mutex<Option<Reading>>;

#[derive(Debug)]
struct Reading {
    began: Instant,
    took: Duration,
    /// When the row of the batch, without its counts, was last as here.
    row_as_of: Instant,
    batch: Result<Option<Batch>, Failed>,
}

/// The caller that read has the error itself.
#[derive(Debug, Clone, Copy)]
struct Failed;

impl Reading {
    /// How old the reading may be, so that readings take a small part of the time.
    fn age_max(&self, at_least: Duration) -> Duration {
        (self.took * SHARE).clamp(at_least, AGE_MAX)
    }

    /// The outcome, for another caller. After an error every caller would wait as long in turn, so all get an error.
    fn shared(&self) -> Result<Option<Batch>, QueueError> {
        let batch = self.batch.clone();
        batch.map_err(|Failed| sqlx::Error::PoolTimedOut.into())
    }

    /// The batch, if its counts took long and are young enough to be used again.
    fn costly(&self) -> Option<Batch> {
        let is_young = self.began.elapsed() < self.age_max(Duration::ZERO);
        let batch = self.batch.as_ref().ok()?.as_ref()?;
        let is_costly = self.took >= COSTLY && batch.counts.total >= COSTLY_LINES;
        (is_costly && is_young).then(|| batch.clone())
    }
}

impl BatchFinder {
    pub fn new(db: Db, reads: Reads) -> Self {
        Self {
            db,
            reads,
            readings: Arc::default(),
            read: Arc::default(),
        }
    }

    /// A batch of `owner`; `None` for a batch of another owner. Ends the batch first if that is due.
    ///
    /// All but the counts is as it is now. The counts of a large batch that runs may be some hundred milliseconds old.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(&self, batch: BatchId, owner: &str) -> Result<Option<Batch>, QueueError> {
        let asked = Instant::now();
        let slot = self.slot(batch, owner);
        // Of callers that wait here at the same time, one reads for all.
        let mut reading = slot.lock().await;
        if let Some(reading) = reading.as_mut() {
            if reading.began >= asked {
                return reading.shared();
            }
            if let Some(known) = reading.costly() {
                if reading.row_as_of < asked {
                    let looked = Instant::now();
                    if self.head(batch, owner).await? == Some(known.head()) {
                        reading.row_as_of = looked;
                    }
                }
                if reading.row_as_of >= asked {
                    return Ok(Some(known));
                }
            }
        }
        self.read_into(&mut reading, batch, owner).await
    }

    /// As [`find`](Self::find), for a caller that waits and hears of the end of the batch: everything may be a second old, of a
    /// batch that takes long to count up to ten seconds.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find_recent(
        &self,
        batch: BatchId,
        owner: &str,
    ) -> Result<Option<Batch>, QueueError> {
        let slot = self.slot(batch, owner);
        let mut reading = slot.lock().await;
        let is_young =
            |reading: &Reading| reading.began.elapsed() < reading.age_max(WAITERS_READ_EVERY);
        if let Some(recent) = reading.as_ref().filter(|reading| is_young(reading)) {
            return recent.shared();
        }
        self.read_into(&mut reading, batch, owner).await
    }

    /// The row of a batch of `owner`. Costs one look-up by key, however large the batch is.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn head(&self, batch: BatchId, owner: &str) -> Result<Option<BatchHead>, QueueError> {
        find_head(&*self.db, batch, owner).await
    }

    /// How many times this process has read a batch and its counts.
    pub fn readings(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn slot(&self, batch: BatchId, owner: &str) -> Arc<Slot> {
        let mut readings = self.readings.lock().expect("no panic holds it");
        if readings.len() > KEPT {
            readings.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        readings
            .entry((batch, owner.to_owned()))
            .or_default()
            .clone()
    }

    async fn read_into(
        &self,
        reading: &mut Option<Reading>,
        batch: BatchId,
        owner: &str,
    ) -> Result<Option<Batch>, QueueError> {
        self.read.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("darkroom_batch_reads_total").increment(1);
        let began = Instant::now();
        // Without the wait for a connection.
        let mut took = Duration::ZERO;
        let found = self.reads.run(owner, async |db| {
            let began = Instant::now();
            let found = find(db, batch, owner).await;
            took = began.elapsed();
            found
        });
        let found = found.await;
        *reading = Some(Reading {
            began,
            took,
            row_as_of: began,
            batch: found.as_ref().cloned().map_err(|_| Failed),
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Failed, Reading};

    #[test]
    fn a_reading_stays_valid_for_ten_times_its_cost() {
        let age_max = |took| {
            let reading = Reading {
                began: Instant::now(),
                row_as_of: Instant::now(),
                took: Duration::from_millis(took),
                batch: Err(Failed),
            };
            reading.age_max(Duration::from_secs(1)).as_millis()
        };
        assert_eq!(
            [age_max(1), age_max(300), age_max(5_000)],
            [1_000, 3_000, 10_000]
        );
    }
}
