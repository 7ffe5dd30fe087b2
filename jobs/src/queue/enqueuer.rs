//! Concurrent submits of one process share a statement and a commit.
//!
//! The next commit starts when the last one has returned, with all submits that arrived meanwhile. A lone submit waits for
//! nothing; many submits pay for one disk flush.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot},
    time::timeout,
};

use super::{Enqueued, NewJob, Notifier, QueueError, enqueue::enqueue_on};
use crate::{
    JobId,
    batch_loader::{receive_more, send_error},
    db::{StatementPool, Trouble, is_stale_plan},
    tasks,
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

type SubmitResult = Result<Enqueued, QueueError>;

struct Submit {
    job: NewJob,
    reply: oneshot::Sender<SubmitResult>,
}

/// A handle to the process's one committer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Enqueuer {
    submits: mpsc::Sender<Submit>,
    pending: Arc<PendingUploads>,
}

/// Counts the submits whose images are being stored.
#[derive(Debug, Default)]
struct PendingUploads {
    count: AtomicUsize,
    one_ended: Notify,
}

/// A submit whose image is being stored. A commit waits a moment for it, so that both share the commit.
#[derive(Debug)]
pub struct PendingUpload<'a>(&'a Enqueuer);

impl PendingUpload<'_> {
    /// As [`Enqueuer::submit`].
    ///
    /// # Errors
    /// As [`Enqueuer::submit`].
    pub async fn submit(self, job: NewJob) -> Result<Enqueued, QueueError> {
        let sent = self.0.send(job);
        drop(self); // only now, so that the commit finds the submit
        receive(sent?).await
    }
}

impl Drop for PendingUpload<'_> {
    fn drop(&mut self) {
        self.0.pending.count.fetch_sub(1, Ordering::Relaxed);
        self.0.pending.one_ended.notify_one();
    }
}

impl std::fmt::Debug for Submit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Submit").field(&self.job.id).finish()
    }
}

impl Enqueuer {
    pub fn start(db: impl Into<StatementPool>, config: &EnqueuerConfig) -> Self {
        let db = db.into();
        let (submits, waiting) = mpsc::channel::<Submit>(config.enqueue_waiting_max);
        let pending = Arc::<PendingUploads>::default();
        let committer = Committer {
            notifier: Notifier::start(db.clone()),
            db,
            waiting: Arc::new(Mutex::new(waiting)),
            pending: pending.clone(),
            batch_max: config.enqueue_batch_max,
            pending_wait: Duration::from_millis(config.enqueue_company_ms),
        };
        tasks::restart("enqueuer", move || committer.clone().run());
        Self { submits, pending }
    }

    /// Whether a submit would be refused now: to be asked before its image is received.
    pub fn is_full(&self) -> bool {
        self.submits.capacity() == 0
    }

    /// Announces a submit whose image is about to be stored.
    pub fn announce_upload(&self) -> PendingUpload<'_> {
        self.pending.count.fetch_add(1, Ordering::Relaxed);
        PendingUpload(self)
    }

    /// Queues one job; committed when it returns.
    ///
    /// # Errors
    /// [`QueueError::Full`] at once when too many submits wait; [`QueueError::KeyTaken`] when the idempotency key stands for
    /// another job; [`QueueError::Db`] when it is not known whether the job was committed.
    pub async fn submit(&self, job: NewJob) -> Result<Enqueued, QueueError> {
        receive(self.send(job)?).await
    }

    fn send(&self, job: NewJob) -> Result<oneshot::Receiver<SubmitResult>, QueueError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.submits.try_send(Submit { job, reply });
        sent.map_err(|_| QueueError::Full)?;
        Ok(answer)
    }
}

async fn receive(answer: oneshot::Receiver<SubmitResult>) -> SubmitResult {
    let gone = |_| Err(QueueError::Db(sqlx::Error::WorkerCrashed));
    answer.await.unwrap_or_else(gone)
}

/// The background task of an [`Enqueuer`].
#[derive(Debug, Clone)]
struct Committer {
    db: StatementPool,
    notifier: Notifier,
    waiting: Arc<Mutex<mpsc::Receiver<Submit>>>,
    pending: Arc<PendingUploads>,
    batch_max: usize,
    /// Longest time that a commit waits for pending uploads.
    pending_wait: Duration,
}

impl Committer {
    async fn run(self) {
        let mut waiting = self.waiting.lock().await;
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, self.batch_max).await > 0 {
            receive_more(&mut waiting, &mut batch, self.batch_max).await;
            let uploads = self.wait_for_uploads(&mut waiting, &mut batch);
            drop(timeout(self.pending_wait, uploads).await);
            metrics::gauge!("darkroom_enqueue_waiting").set(waiting.len() as f64);
            self.commit(std::mem::take(&mut batch)).await;
        }
    }

    /// Adds submits to `batch` until no upload is pending or the batch is full.
    async fn wait_for_uploads(
        &self,
        waiting: &mut mpsc::Receiver<Submit>,
        batch: &mut Vec<Submit>,
    ) {
        while self.pending.count.load(Ordering::Relaxed) > 0 {
            let room = self.batch_max.saturating_sub(batch.len());
            if room == 0 {
                return;
            }
            tokio::select! {
                received = waiting.recv_many(batch, room) => if received == 0 {
                    return; // all handles are gone
                },
                () = self.pending.one_ended.notified() => {}
            }
        }
        receive_more(waiting, batch, self.batch_max).await;
    }

    async fn commit(&self, batch: Vec<Submit>) {
        let started = Instant::now();
        metrics::histogram!("darkroom_enqueue_batch_size").record(batch.len() as f64);
        let (jobs, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|submit| (submit.job, submit.reply))
            .unzip();
        match self.enqueue(&jobs).await {
            Ok(rows) => {
                let mut rows: HashMap<JobId, Enqueued> =
                    rows.into_iter().map(|row| (row.job_id, row)).collect();
                for job in &jobs {
                    self.notifier.queued(job.model.model_id);
                }
                for (job, reply) in jobs.iter().zip(replies) {
                    let row = rows.remove(&job.id).ok_or(QueueError::KeyTaken);
                    drop(reply.send(row)); // the job stays, also if its client has left
                }
            }
            // One bad job must not fail the others: each gets a commit of its own.
            Err(error) if jobs.len() > 1 && may_be_about_one(&error) => {
                for (job, reply) in jobs.into_iter().zip(replies) {
                    Box::pin(self.commit(vec![Submit { job, reply }])).await;
                }
            }
            Err(error) => {
                tracing::warn!(error.cause = %error, jobs = jobs.len(), "enqueue failed");
                send_error(error, replies);
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        metrics::histogram!("darkroom_enqueue_seconds").record(elapsed);
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
        let enqueue = || self.db.run(async |db| enqueue_on(db, jobs).await);
        match enqueue().await {
            // A migration ran: the next connection prepares the statement anew.
            Err(error) if is_stale_plan(&error) => enqueue().await,
            enqueued => enqueued,
        }
    }
}

/// Whether the error may be about one job of a batch: Postgres refused a value, or two jobs conflict. `false` if Postgres takes
/// no job at all for the moment, also where a pooler reports that.
fn may_be_about_one(error: &QueueError) -> bool {
    match error {
        QueueError::Db(sqlx::Error::Database(_)) => {
            // A statement of one job needs less time than one of many.
            matches!(
                Trouble::of(error),
                None | Some(Trouble::Conflict | Trouble::TimeOut)
            )
        }
        QueueError::ImagePurged => true,
        _ => false,
    }
}
