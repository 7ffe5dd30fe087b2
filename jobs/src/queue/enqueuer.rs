//! Group commit: concurrent submits of one process share a statement and a commit.
//!
//! The next flush starts when the last has returned, with whatever has arrived: a lone submit waits for nothing, and a
//! crowd pays for one disk flush. Measured by the design: 3k submits a second one by one, 64k together.

use std::{collections::HashMap, time::Duration};

use clap::Args;
use tokio::sync::{mpsc, oneshot};

use super::{Enqueued, NewJob, Notifier, QueueError, enqueue::enqueue_on};
use crate::{JobId, db::Kept};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Queue")]
pub struct EnqueuerConfig {
    /// Most submits that one commit takes
    #[arg(long, env = "DARKROOM_ENQUEUE_BATCH_MAX", default_value_t = 500)]
    pub enqueue_batch_max: usize,
    /// Most submits that may wait for their commit before further ones are refused with `queue_full`
    #[arg(long, env = "DARKROOM_ENQUEUE_WAITING_MAX", default_value_t = 2_000)]
    pub enqueue_waiting_max: usize,
}

struct Submit {
    job: NewJob,
    answer: oneshot::Sender<Result<Enqueued, QueueError>>,
}

/// A handle to the process's one committer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Enqueuer(mpsc::Sender<Submit>);

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
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while waiting.recv_many(&mut batch, batch_max).await > 0 {
                gather(&mut waiting, &mut batch, batch_max).await;
                metrics::gauge!("darkroom_enqueue_waiting").set(waiting.len() as f64);
                commit(&db, &notifier, std::mem::take(&mut batch)).await;
            }
        });
        Self(submits)
    }

    /// Whether a submit would be refused now: worth a look before its image is received.
    pub fn is_full(&self) -> bool {
        self.0.capacity() == 0
    }

    /// Queues one job; committed when it returns.
    ///
    /// # Errors
    /// [`QueueError::Full`] at once when too many wait; [`QueueError::KeyTaken`] when its idempotency key stands for another
    /// job; [`QueueError::Db`] when it is not known to be committed.
    pub async fn submit(&self, job: NewJob) -> Result<Enqueued, QueueError> {
        let (answer, answered) = oneshot::channel();
        self.0
            .try_send(Submit { job, answer })
            .map_err(|_| QueueError::Full)?;
        answered
            .await
            .unwrap_or(Err(QueueError::Db(sqlx::Error::WorkerCrashed)))
    }
}

/// Lets those come along who are about to submit: whoever was answered by the last flush may be next, and needs no more
/// than its turn on the processor. One after the other, half of sixteen callers missed each flush.
async fn gather(waiting: &mut mpsc::Receiver<Submit>, batch: &mut Vec<Submit>, most: usize) {
    loop {
        tokio::task::yield_now().await;
        let room = most.saturating_sub(batch.len());
        if room == 0 || waiting.is_empty() {
            return;
        }
        waiting.recv_many(batch, room).await;
    }
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
        // Postgres refused a value of one of them: let each stand for itself.
        Err(QueueError::Db(sqlx::Error::Database(_)) | QueueError::ImagePurged)
            if jobs.len() > 1 =>
        {
            for (job, answer) in jobs.into_iter().zip(answers) {
                Box::pin(commit(db, notifier, vec![Submit { job, answer }])).await;
            }
        }
        Err(error) => {
            tracing::warn!(error.cause = %error, jobs = jobs.len(), "enqueue failed");
            let mut first = Some(error);
            for answer in answers {
                let error = first
                    .take()
                    .unwrap_or(QueueError::Db(sqlx::Error::PoolTimedOut));
                drop(answer.send(Err(error)));
            }
        }
    }
    let elapsed: Duration = started.elapsed();
    metrics::histogram!("darkroom_enqueue_seconds").record(elapsed.as_secs_f64());
}

async fn flush(db: &Kept, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
    db.run(async |db| enqueue_on(db, jobs).await).await
}
