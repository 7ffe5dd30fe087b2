//! One read for all who look for a job at the same moment: a notification that tells of many ends wakes as many waiters.
//!
//! As with commits, the next read starts when the last has returned, with whatever has been asked for meanwhile; who is
//! alone waits for nobody.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

use super::{QueueError, find::find_on};
use crate::{Job, JobId, db::Kept};

/// Most jobs of one read.
const READ_MAX: usize = 100;
/// Most who may wait for a read; further ones wait for their place.
const WAITING_MAX: usize = 1_000;

#[derive(Debug)]
struct Ask {
    job: JobId,
    owner: String,
    answer: oneshot::Sender<Result<Option<Job>, QueueError>>,
}

/// A handle to the process's one reader; cheap to clone.
#[derive(Debug, Clone)]
pub struct Finder(mpsc::Sender<Ask>);

impl Finder {
    pub fn start(db: PgPool) -> Self {
        let (asks, mut waiting) = mpsc::channel(WAITING_MAX);
        let db = Kept::by_keys(db);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            while waiting.recv_many(&mut asked, READ_MAX).await > 0 {
                read(&db, std::mem::take(&mut asked)).await;
            }
        });
        Self(asks)
    }

    /// As [`find`](super::find()).
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(&self, job: JobId, owner: &str) -> Result<Option<Job>, QueueError> {
        let (answer, answered) = oneshot::channel();
        let owner = owner.to_owned();
        let ask = Ask { job, owner, answer };
        let gone = || QueueError::Db(sqlx::Error::WorkerCrashed);
        self.0.send(ask).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn read(db: &Kept, mut asks: Vec<Ask>) {
    // Who has left by now needs no answer.
    asks.retain(|ask| !ask.answer.is_closed());
    // Several may look for the same.
    let wanted: BTreeSet<_> = asks.iter().map(|ask| (ask.job, &ask.owner)).collect();
    let (ids, owners): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .map(|(job, owner)| (job.uuid(), owner.clone()))
        .unzip();
    if ids.is_empty() {
        return;
    }
    match find(db, &ids, &owners).await {
        Ok(found) => {
            let found: HashMap<_, _> = found.into_iter().map(|job| (job.id, job)).collect();
            for ask in asks {
                let job = found.get(&ask.job).filter(|job| job.owner == ask.owner);
                drop(ask.answer.send(Ok(job.cloned())));
            }
        }
        Err(error) => {
            let mut first = Some(error);
            for ask in asks {
                let error = first.take();
                let error = error.unwrap_or(QueueError::Db(sqlx::Error::PoolTimedOut));
                drop(ask.answer.send(Err(error)));
            }
        }
    }
}

async fn find(db: &Kept, ids: &[uuid::Uuid], owners: &[String]) -> Result<Vec<Job>, QueueError> {
    db.run(async |db| find_on(db, ids, owners).await).await
}
