//! Batch commit: concurrent submits of one process share a statement and a commit.
//!
//! The next flush starts when the last has returned, with whatever has arrived: a lone submit waits for nothing, and a
//! crowd pays for one disk flush. Measured by the design: 3k submits a second one by one, 64k together.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Args;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::{Enqueued, NewJob, Notifier, QueueError, enqueue::enqueue_on};
use crate::{
    JobId,
    db::Kept,
    together::{fail, gather},
};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Queue")]
pub struct EnqueuerConfig {
    /// Most submits that one commit takes
    #[arg(long, env = "DARKROOM_ENQUEUE_BATCH_MAX", default_value_t = 500)]
    pub enqueue_batch_max: usize,
    /// Most submits that may wait for their commit before further ones are refused with `queue_full`
    #[arg(long, env = "DARKROOM_ENQUEUE_WAITING_MAX", default_value_t = 2_000)]
    pub enqueue_waiting_max: usize,
    /// Longest time that a commit waits for submits whose images are being stored, in milliseconds: they share it
    #[arg(long, env = "DARKROOM_ENQUEUE_COMPANY_MS", default_value_t = 5)]
    pub enqueue_company_ms: u64,
}

type Answer = Result<Enqueued, QueueError>;

struct Submit {
    job: NewJob,
    answer: oneshot::Sender<Answer>,
}

/// A handle to the process's one committer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Enqueuer {
    submits: mpsc::Sender<Submit>,
    on_their_way: Arc<OnTheirWay>,
}

#[derive(Debug, Default)]
struct OnTheirWay {
    submits: AtomicUsize,
    one_less: Notify,
}

/// A submit whose image is being stored: others wait a moment for it, so as to share its commit.
#[derive(Debug)]
pub struct Coming<'a>(&'a Enqueuer);

impl Coming<'_> {
    /// As [`Enqueuer::submit`].
    ///
    /// # Errors
    /// The same.
    pub async fn submit(self, job: NewJob) -> Result<Enqueued, QueueError> {
        let sent = self.0.send(job);
        drop(self); // after it has come
        committed(sent?).await
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.on_their_way.submits.fetch_sub(1, Ordering::Relaxed);
        self.0.on_their_way.one_less.notify_one();
    }
}

impl std::fmt::Debug for Submit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Submit").field(&self.job.id).finish()
    }
}

impl Enqueuer {
    pub fn start(db: impl Into<Kept>, config: &EnqueuerConfig) -> Self {
        let db = db.into();
        let (submits, mut waiting) = mpsc::channel::<Submit>(config.enqueue_waiting_max);
        let batch_max = config.enqueue_batch_max;
        let notifier = Notifier::start(db.clone());
        let company_max = Duration::from_millis(config.enqueue_company_ms);
        let on_their_way = Arc::<OnTheirWay>::default();
        let coming = on_their_way.clone();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, batch_max).await > 0 {
                gather(&mut waiting, &mut batch, batch_max).await;
                let company = await_company(&coming, &mut waiting, &mut batch, batch_max);
                drop(timeout(company_max, company).await);
                metrics::gauge!("darkroom_enqueue_waiting").set(waiting.len() as f64);
                commit(&db, &notifier, std::mem::take(&mut batch)).await;
            }
        });
        Self {
            submits,
            on_their_way,
        }
    }

    /// Whether a submit would be refused now: worth a look before its image is received.
    pub fn is_full(&self) -> bool {
        self.submits.capacity() == 0
    }

    /// Says that a submit will come in a moment.
    pub fn coming(&self) -> Coming<'_> {
        self.on_their_way.submits.fetch_add(1, Ordering::Relaxed);
        Coming(self)
    }

    /// Queues one job; committed when it returns.
    ///
    /// # Errors
    /// [`QueueError::Full`] at once when too many wait; [`QueueError::KeyTaken`] when its idempotency key stands for another
    /// job; [`QueueError::Db`] when it is not known to be committed.
    pub async fn submit(&self, job: NewJob) -> Result<Enqueued, QueueError> {
        committed(self.send(job)?).await
    }

    fn send(&self, job: NewJob) -> Result<oneshot::Receiver<Answer>, QueueError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.submits.try_send(Submit { job, answer });
        sent.map_err(|_| QueueError::Full)?;
        Ok(answered)
    }
}

async fn committed(answered: oneshot::Receiver<Answer>) -> Answer {
    let gone = |_| Err(QueueError::Db(sqlx::Error::WorkerCrashed));
    answered.await.unwrap_or_else(gone)
}

/// Takes those in who are on their way.
async fn await_company(
    coming: &OnTheirWay,
    waiting: &mut mpsc::Receiver<Submit>,
    batch: &mut Vec<Submit>,
    most: usize,
) {
    while coming.submits.load(Ordering::Relaxed) > 0 {
        let room = most.saturating_sub(batch.len());
        if room == 0 {
            return;
        }
        tokio::select! {
            came = waiting.recv_many(batch, room) => if came == 0 {
                return; // nobody is left who could submit
            },
            () = coming.one_less.notified() => {}
        }
    }
    gather(waiting, batch, most).await;
}

async fn commit(db: &Kept, notifier: &Notifier, batch: Vec<Submit>) {
    let started = std::time::Instant::now();
    metrics::histogram!("darkroom_enqueue_batch_size").record(batch.len() as f64);
    let (jobs, answers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|submit| (submit.job, submit.answer))
        .unzip();
    match flush(db, &jobs).await {
        Ok(rows) => {
            let mut rows: HashMap<JobId, Enqueued> =
                rows.into_iter().map(|row| (row.job_id, row)).collect();
            for job in &jobs {
                notifier.queued(job.model.model_id);
            }
            for (job, answer) in jobs.iter().zip(answers) {
                let row = rows.remove(&job.id).ok_or(QueueError::KeyTaken);
                drop(answer.send(row)); // a client that left has its job all the same
            }
        }
        // Each stands for itself.
        Err(error) if jobs.len() > 1 && may_be_about_one(&error) => {
            for (job, answer) in jobs.into_iter().zip(answers) {
                Box::pin(commit(db, notifier, vec![Submit { job, answer }])).await;
            }
        }
        Err(error) => {
            tracing::warn!(error.cause = %error, jobs = jobs.len(), "enqueue failed");
            fail(error, answers);
        }
    }
    let elapsed: Duration = started.elapsed();
    metrics::histogram!("darkroom_enqueue_seconds").record(elapsed.as_secs_f64());
}

/// Whether Postgres refused a value of one of them, or they were in each other's way: not that it is away, as a pooler says it.
fn may_be_about_one(error: &QueueError) -> bool {
    match error {
        QueueError::Db(sqlx::Error::Database(error)) => {
            let code = error.code().unwrap_or_default();
            !["08", "57P"].iter().any(|class| code.starts_with(class))
        }
        QueueError::ImagePurged => true,
        _ => false,
    }
}

async fn flush(db: &Kept, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
    db.run(async |db| enqueue_on(db, jobs).await).await
}
