//! One statement for all look-ups of one kind that arrive at the same moment (docs/adr/0012-one-plan.md). A notification of
//! many ended jobs wakes many clients at once, and each of them then looks a job up and submits another.
//!
//! The next statement starts when the last one has returned, with all look-ups that arrived meanwhile. A lone look-up waits
//! for no other. A statement starts after its look-ups were requested, so it sees all that was committed before them.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures_util::FutureExt;
use sqlx::PgConnection;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    db::{StatementPool, is_stale_plan},
    tasks,
};

/// Most look-ups of one statement.
const BATCH_MAX: usize = 100;
/// Most look-ups that may wait for a statement; further ones wait for a place.
const WAITING_MAX: usize = 1_000;

/// What was found, each value with its key.
pub type Loaded<L> = Vec<(<L as BatchLoad>::Key, <L as BatchLoad>::Value)>;

/// A statement that looks up many keys at once.
pub trait BatchLoad: Sized + 'static {
    type Key: Clone + Eq + Hash + Ord + Send + Sync + fmt::Debug;
    type Value: Clone + Send;
    type Error: From<sqlx::Error> + std::error::Error + Send + 'static;

    /// Name of the background task, for the log.
    const TASK: &'static str;

    /// The values of those keys that have one, in any order. `keys` has no duplicates.
    fn load(
        db: &mut PgConnection,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<Loaded<Self>, Self::Error>> + Send;
}

type LoadResult<L> = Result<Option<<L as BatchLoad>::Value>, <L as BatchLoad>::Error>;

struct Request<L: BatchLoad> {
    key: L::Key,
    reply: oneshot::Sender<LoadResult<L>>,
}

/// A handle to the process's one loader of this kind; cheap to clone.
pub struct BatchLoader<L: BatchLoad>(mpsc::Sender<Request<L>>);

impl<L: BatchLoad> BatchLoader<L> {
    pub fn start(db: StatementPool) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        tasks::restart(L::TASK, move || run(db.clone(), waiting.clone()));
        Self(requests)
    }

    /// The value of `key` now, if there is one.
    ///
    /// # Errors
    /// Those of the statement; Postgres is away.
    pub async fn load(&self, key: L::Key) -> LoadResult<L> {
        let (reply, answer) = oneshot::channel();
        let gone = || L::Error::from(sqlx::Error::WorkerCrashed);
        let sent = self.0.send(Request { key, reply }).await;
        sent.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl<L: BatchLoad> Clone for BatchLoader<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<L: BatchLoad> fmt::Debug for BatchLoader<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLoader").finish_non_exhaustive()
    }
}

async fn run<L: BatchLoad>(db: StatementPool, waiting: Arc<Mutex<mpsc::Receiver<Request<L>>>>) {
    let mut waiting = waiting.lock().await;
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        receive_more(&mut waiting, &mut batch, BATCH_MAX).await;
        load_batch(&db, std::mem::take(&mut batch)).await;
    }
}

/// Adds to `batch` what tasks send that are ready to run: the callers that the last statement answered may ask again at
/// once. Without this, half of sixteen submitters missed each commit.
pub(crate) async fn receive_more<T>(
    waiting: &mut mpsc::Receiver<T>,
    batch: &mut Vec<T>,
    most: usize,
) {
    loop {
        tokio::task::yield_now().await;
        let room = most.saturating_sub(batch.len());
        if room == 0 || waiting.is_empty() {
            return;
        }
        waiting.recv_many(batch, room).await;
    }
}

async fn load_batch<L: BatchLoad>(db: &StatementPool, mut requests: Vec<Request<L>>) {
    // A caller that left needs no answer.
    requests.retain(|request| !request.reply.is_closed());
    let keys: BTreeSet<_> = requests.iter().map(|request| request.key.clone()).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    if keys.is_empty() {
        return;
    }
    match load_or_fail::<L>(db, &keys).await {
        Ok(loaded) => {
            let loaded: HashMap<_, _> = loaded.into_iter().collect();
            for request in requests {
                let value = loaded.get(&request.key).cloned();
                drop(request.reply.send(Ok(value)));
            }
        }
        Err(error) => send_error(error, requests.into_iter().map(|request| request.reply)),
    }
}

/// The driver may panic over a row that it cannot decode. Here a panic becomes an error of this batch, and the loader goes on.
async fn load_or_fail<L: BatchLoad>(
    db: &StatementPool,
    keys: &[L::Key],
) -> Result<Loaded<L>, L::Error> {
    let load = || async {
        let load = AssertUnwindSafe(db.run(async |db| L::load(db, keys).await));
        let loaded = load.catch_unwind().await;
        loaded.unwrap_or_else(|_| {
            let cause = "the driver cannot read a row".into();
            Err(sqlx::Error::Decode(cause).into())
        })
    };
    match load().await {
        // A migration ran: the next connection prepares the statement anew.
        Err(error) if is_stale_plan(&error) => load().await,
        loaded => loaded,
    }
}

/// Sends an error to all callers. An error cannot be cloned: the first caller gets the error itself, all others get a
/// time-out.
pub(crate) fn send_error<T, E: From<sqlx::Error>>(
    error: E,
    replies: impl IntoIterator<Item = oneshot::Sender<Result<T, E>>>,
) {
    let mut first = Some(error);
    for reply in replies {
        let error = first.take();
        drop(reply.send(Err(
            error.unwrap_or_else(|| sqlx::Error::PoolTimedOut.into()),
        )));
    }
}
