//! An attempt at a claimed job, and its outcome.

use std::{sync::Arc, time::Instant};

use jobs::{job::StageError, queue::Claim, telemetry};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::stage::Timings;
use crate::{
    drain::Drain,
    held_jobs::{HeldJob, HeldJobState, HeldJobs},
};

/// The outcome of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// The job ends with this result.
    Succeeded(Prediction),
    /// The worker or the service is the cause. The job is queued again after a backoff, and the attempt is charged.
    Retry(StageError),
    /// The store does not have what the database names. The job is queued again after a backoff, and the attempt is not charged.
    Postpone(StageError),
    /// The image or the model is the cause. There is no other attempt.
    Fail(StageError),
    /// The machine leaves, or S3 cannot be reached. The job is queued again at once, and the attempt is not charged.
    Release,
}

impl Outcome {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Retry(_) => "retried",
            Self::Postpone(_) => "postponed",
            Self::Fail(_) => "failed",
            Self::Release => "released",
        }
    }
}

/// The result of a successful attempt.
#[derive(Debug)]
pub struct Prediction {
    pub result: Value,
    /// Images of the forward batch.
    pub batch_size: usize,
    /// Position of the image in the forward batch, from 0.
    pub batch_position: usize,
}

/// The place of a job in the pipeline. When it is dropped, the place is free and the worker no longer holds the job.
#[derive(Debug)]
pub struct Place {
    pub job: Arc<HeldJob>,
    pub held_jobs: Arc<HeldJobs>,
    #[expect(dead_code, reason = "dropping the permit frees the place")]
    pub permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held_jobs.drop_job(&self.job);
    }
}

/// An attempt whose outcome is known and has to be written.
#[derive(Debug)]
pub struct EndedAttempt {
    pub place: Place,
    pub timings: Timings,
    pub input_warnings: Vec<decode::Warning>,
    pub outcome: Outcome,
    pub decided_at: Instant,
}

/// An attempt at a claimed job. It ends by [`Attempt::end`]. If it is dropped before, the job is released; after a panic it
/// counts as lost with the worker.
#[derive(Debug)]
pub struct Attempt {
    pub claim: Claim,
    pub timings: Timings,
    /// What is wrong with the file of the image. Empty until the image is decoded.
    pub input_warnings: Vec<decode::Warning>,
    place: Option<Place>,
    to_complete: mpsc::Sender<EndedAttempt>,
}

impl Attempt {
    pub fn new(claim: Claim, place: Place, to_complete: mpsc::Sender<EndedAttempt>) -> Self {
        Self {
            claim,
            timings: Timings::default(),
            input_warnings: Vec::new(),
            place: Some(place),
            to_complete,
        }
    }

    /// Returns the attempt if the worker should go on with it. Otherwise releases the job. Every stage calls this first.
    pub fn if_wanted(self, drain: &Drain) -> Option<Self> {
        let wanted = self
            .place
            .as_ref()
            .is_some_and(|place| place.job.state() == HeldJobState::Wanted);
        if wanted && !drain.is_draining() {
            return Some(self);
        }
        self.end(Outcome::Release);
        None
    }

    /// [`Self::if_wanted`] for the inference stage: from here on this worker makes the outcome, and a drain waits for it.
    pub fn if_wanted_on_device(self, drain: &Drain) -> Option<Self> {
        let attempt = self.if_wanted(drain)?;
        if attempt
            .place
            .as_ref()
            .is_some_and(|place| place.job.decide())
        {
            return Some(attempt);
        }
        attempt.end(Outcome::Release);
        None
    }

    /// Ends the attempt with `outcome`, which the complete stage writes.
    pub fn end(mut self, outcome: Outcome) {
        self.log(&outcome);
        self.send(outcome);
    }

    /// Ends an attempt on a lost device: writes no outcome and makes the worker fail. The job counts as lost with the worker.
    /// After its second loss a job runs alone.
    pub fn abandon(mut self, drain: &Drain, cause: &str) {
        drain.fail(&format!("the device does not respond any more: {cause}"));
        tracing::error!(job.id = %self.claim.lease.job_id, "abandoned the job: its image may have broken the device");
        self.place = None;
    }

    fn log(&self, outcome: &Outcome) {
        let (job, lease) = (self.claim.lease.job_id, self.claim.lease.lease_no);
        match outcome {
            Outcome::Fail(error) => {
                tracing::info!(job.id = %job, lease.no = %lease, error.code = error.code.as_str(),
                    error.cause = telemetry::chain(error), "job failed");
            }
            Outcome::Retry(error) => {
                tracing::warn!(job.id = %job, lease.no = %lease, error.code = error.code.as_str(),
                    error.cause = telemetry::chain(error), "attempt failed; the job will be tried again");
            }
            Outcome::Postpone(error) => {
                tracing::warn!(job.id = %job, lease.no = %lease, error.code = error.code.as_str(),
                    error.cause = telemetry::chain(error), "the store lacks what the job needs; the job will be tried again, uncharged");
            }
            Outcome::Succeeded(_) | Outcome::Release => {
                tracing::debug!(job.id = %job, lease.no = %lease, outcome = outcome.as_str(), "attempt ended");
            }
        }
    }

    fn send(&mut self, outcome: Outcome) {
        let Some(place) = self.place.take() else {
            return;
        };
        place.job.decide();
        let ended = EndedAttempt {
            place,
            timings: self.timings,
            input_warnings: std::mem::take(&mut self.input_warnings),
            outcome,
            decided_at: Instant::now(),
        };
        // The channel has room for all places, so it is never full. It has no reader only when the process ends.
        if let Err(error) = self.to_complete.try_send(ended) {
            tracing::error!(job.id = %self.claim.lease.job_id, error.cause = %error, "the outcome did not reach the complete stage");
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.place.is_none() {
            return;
        }
        let job = self.claim.lease.job_id;
        if std::thread::panicking() {
            // A released job would make the next worker panic, and the next. A lost job is counted, and runs alone the second time.
            tracing::error!(job.id = %job, "abandoned the job: its image may have caused the panic");
            self.place = None;
        } else {
            tracing::error!(job.id = %job, "the attempt was dropped by a stage; releasing the job");
            self.send(Outcome::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread::JoinHandle};

    use jobs::{
        JobId, LeaseNo, Sha256Digest, WorkerId,
        queue::{Claim, Lease},
    };
    use serde_json::json;
    use tokio::sync::{Semaphore, mpsc};

    use super::{Attempt, EndedAttempt, Outcome, Place};
    use crate::held_jobs::HeldJobs;

    /// A worker with one place, and an attempt that has the place.
    struct Worker {
        held_jobs: Arc<HeldJobs>,
        places: Arc<Semaphore>,
        ended: mpsc::Receiver<EndedAttempt>,
    }

    impl Worker {
        fn with_attempt() -> (Self, Attempt) {
            let (held_jobs, worker) = (Arc::new(HeldJobs::default()), WorkerId(1));
            held_jobs.set_worker(Some(worker));
            let places = Arc::new(Semaphore::new(1));
            let (to_complete, ended) = mpsc::channel(1);
            let claim = claim();
            let place = Place {
                job: held_jobs.add(worker, claim.lease),
                held_jobs: held_jobs.clone(),
                permit: places.clone().try_acquire_owned().expect("a free place"),
            };
            let attempt = Attempt::new(claim, place, to_complete);
            let worker = Self {
                held_jobs,
                places,
                ended,
            };
            (worker, attempt)
        }

        /// Jobs that the worker holds, and places that are free.
        fn held_and_free(&self) -> (usize, usize) {
            (self.held_jobs.len(), self.places.available_permits())
        }
    }

    fn claim() -> Claim {
        let job_id = JobId::now();
        Claim {
            lease: Lease {
                job_id,
                lease_no: LeaseNo(1),
            },
            owner: "alice".into(),
            model_version_id: 1,
            image_sha256: Sha256Digest::of(b"image"),
            image_upload: job_id.uuid(),
            params: json!({}),
            interruptions: 0,
            attempt: 1,
            attempt_timeout_seconds: 60,
            trace_parent: None,
            queue_ms: 0.0,
        }
    }

    #[test]
    fn an_attempt_whose_thread_panics_counts_as_lost() {
        let (mut worker, attempt) = Worker::with_attempt();
        let thread: JoinHandle<()> = std::thread::spawn(move || {
            let _attempt = attempt;
            panic!("made up");
        });
        thread.join().expect_err("the thread panics");
        let ended = worker.ended.try_recv();
        assert!(ended.is_err(), "an outcome was sent: {ended:?}");
        assert_eq!(worker.held_and_free(), (0, 1));
    }

    #[test]
    fn an_attempt_that_is_dropped_is_released() {
        let (mut worker, attempt) = Worker::with_attempt();
        drop(attempt);
        let ended = worker.ended.try_recv().expect("an outcome was sent");
        assert!(matches!(ended.outcome, Outcome::Release), "{ended:?}");
        assert_eq!(
            worker.held_and_free(),
            (1, 0),
            "until the outcome is written"
        );
        drop(ended);
        assert_eq!(worker.held_and_free(), (0, 1));
    }
}
