//! One statement for all who ask for the same kind of thing at the same moment: a notification that tells of many ends
//! wakes as many waiters, and their clients then submit as many photos.
//!
//! As with commits, the next read starts when the last has returned, with whatever has been asked for meanwhile; who is
//! alone waits for nobody. A read begins after it was asked for, so that it sees whatever its asker could know of.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::Hash,
    panic::AssertUnwindSafe,
};

use futures_util::FutureExt;
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use crate::db::Kept;

/// Most asks of one read.
const READ_MAX: usize = 100;
/// Most who may wait for a read; further ones wait for their place.
const WAITING_MAX: usize = 1_000;

/// What was found, each with what it was asked by.
pub type Found<L> = Vec<(<L as Look>::Ask, <L as Look>::Found)>;

/// A statement that looks many things up at once.
pub trait Look: Sized + 'static {
    type Ask: Clone + Eq + Hash + Ord + Send + Sync + fmt::Debug;
    type Found: Clone + Send;
    type Error: From<sqlx::Error> + Send;

    /// What is there of it, in any order; each is asked for once.
    fn look(
        db: &mut PgConnection,
        asks: &[Self::Ask],
    ) -> impl Future<Output = Result<Found<Self>, Self::Error>> + Send;
}

type Answer<L> = Result<Option<<L as Look>::Found>, <L as Look>::Error>;

struct Ask<L: Look> {
    what: L::Ask,
    answer: oneshot::Sender<Answer<L>>,
}

/// A handle to the process's one reader of this kind; cheap to clone.
pub struct Together<L: Look>(mpsc::Sender<Ask<L>>);

impl<L: Look> Together<L> {
    pub fn start(db: Kept) -> Self {
        let (asks, mut waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            while waiting.recv_many(&mut asked, READ_MAX).await > 0 {
                gather(&mut waiting, &mut asked, READ_MAX).await;
                read(&db, std::mem::take(&mut asked)).await;
            }
        });
        Self(asks)
    }

    /// What is there of it now.
    ///
    /// # Errors
    /// Those of the statement; Postgres is away.
    pub async fn find(&self, what: L::Ask) -> Answer<L> {
        let (answer, answered) = oneshot::channel();
        let gone = || L::Error::from(sqlx::Error::WorkerCrashed);
        let sent = self.0.send(Ask { what, answer }).await;
        sent.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl<L: Look> Clone for Together<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: Look> fmt::Debug for Together<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

/// Lets those come along who are about to ask: whoever was answered by the last statement may be next, and needs no more
/// than its turn on the processor. One after the other, half of sixteen submitters missed each commit.
pub(crate) async fn gather<T>(waiting: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, most: usize) {
    loop {
        tokio::task::yield_now().await;
        let room = most.saturating_sub(batch.len());
        if room == 0 || waiting.is_empty() {
            return;
        }
        waiting.recv_many(batch, room).await;
    }
}

async fn read<L: Look>(db: &Kept, mut asks: Vec<Ask<L>>) {
    // Who has left by now needs no answer.
    asks.retain(|ask| !ask.answer.is_closed());
    // Several may look for the same.
    let wanted: BTreeSet<_> = asks.iter().map(|ask| ask.what.clone()).collect();
    let wanted: Vec<_> = wanted.into_iter().collect();
    if wanted.is_empty() {
        return;
    }
    match look::<L>(db, &wanted).await {
        Ok(found) => {
            let found: HashMap<_, _> = found.into_iter().collect();
            for ask in asks {
                drop(ask.answer.send(Ok(found.get(&ask.what).cloned())));
            }
        }
        Err(error) => fail(error, asks.into_iter().map(|ask| ask.answer)),
    }
}

/// A row that the driver cannot read may make it panic: that is then an error of those who asked for it, not the end of
/// everybody's look-ups.
async fn look<L: Look>(db: &Kept, wanted: &[L::Ask]) -> Result<Found<L>, L::Error> {
    let look = AssertUnwindSafe(db.run(async |db| L::look(db, wanted).await));
    let found = look.catch_unwind().await;
    found.unwrap_or_else(|_| {
        let cause = "the driver cannot read a row".into();
        Err(sqlx::Error::Decode(cause).into())
    })
}

/// Tells all of one error, which has no copies: the first hears which, the others that they had no answer in time.
pub(crate) fn fail<T, E: From<sqlx::Error>>(
    error: E,
    answers: impl IntoIterator<Item = oneshot::Sender<Result<T, E>>>,
) {
    let mut first = Some(error);
    for answer in answers {
        let error = first.take();
        drop(answer.send(Err(
            error.unwrap_or_else(|| sqlx::Error::PoolTimedOut.into()),
        )));
    }
}
