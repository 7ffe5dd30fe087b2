//! One claimed job on its way, and what comes of it.

use std::{sync::Arc, time::Instant};

use jobs::{job::StageError, queue::Claim, telemetry};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Timings;
use crate::{
    drain::Drain,
    holdings::{Holding, Holdings, Standing},
};

/// What an attempt came to: the one value the worker branches on.
#[derive(Debug)]
pub enum Outcome {
    /// Written by `queue::complete`.
    Succeeded(Prediction),
    /// Our trouble: back off, attempt charged.
    Retry(StageError),
    /// The image's trouble, or the model's: no second try.
    Fail(StageError),
    /// The machine leaves, or S3 is away: back at once, nothing charged.
    Release,
}

impl Outcome {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Retry(_) => "retried",
            Self::Fail(_) => "failed",
            Self::Release => "released",
        }
    }
}

#[derive(Debug)]
pub struct Prediction {
    pub result: Value,
    /// Images that shared the forward pass, and this one's place among them, from 0.
    pub batch_size: usize,
    pub batch_position: usize,
}

/// A job's place in the pipeline: freed, with the job out of hand, when it is dropped.
#[derive(Debug)]
pub struct Place {
    pub job: Arc<Holding>,
    pub holdings: Arc<Holdings>,
    pub room: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.holdings.drop_job(&self.job);
    }
}

/// A job whose outcome only has to be written.
#[derive(Debug)]
pub struct Settled {
    pub place: Place,
    pub timings: Timings,
    pub outcome: Outcome,
    pub decided_at: Instant,
}

/// One claimed job on its way. It ends by [`Work::settle`]; one that is lost on the way (a panic) releases itself.
#[derive(Debug)]
pub struct Work {
    pub claim: Claim,
    pub timings: Timings,
    place: Option<Place>,
    to_complete: mpsc::Sender<Settled>,
}

impl Work {
    pub fn new(claim: Claim, place: Place, to_complete: mpsc::Sender<Settled>) -> Self {
        Self {
            claim,
            timings: Timings::default(),
            place: Some(place),
            to_complete,
        }
    }

    /// The stage boundary: hands the work on if it is still wanted here, else gives the job back.
    pub fn if_wanted(self, drain: &Drain) -> Option<Self> {
        let wanted = self
            .place
            .as_ref()
            .is_some_and(|place| place.job.standing() == Standing::Wanted);
        if wanted && !drain.is_draining() {
            return Some(self);
        }
        self.settle(Outcome::Release);
        None
    }

    /// The last boundary, before the device: from here on the outcome is made here, and a drain waits for it.
    pub fn if_wanted_on_the_device(self, drain: &Drain) -> Option<Self> {
        let work = self.if_wanted(drain)?;
        if work.place.as_ref().is_some_and(|place| place.job.decide()) {
            return Some(work);
        }
        work.settle(Outcome::Release);
        None
    }

    /// Decides what the attempt came to; the completer writes it.
    pub fn settle(mut self, outcome: Outcome) {
        self.log(&outcome);
        self.send(outcome);
    }

    /// Lets the job go unwritten, and with it a worker whose device answers nothing any more: it counts as lost, and from
    /// the second loss on is tried alone.
    pub fn abandon(mut self, drain: &Drain, cause: &str) {
        drain.broken(format!("the device does not answer any more: {cause}"));
        tracing::error!(job.id = %self.claim.lease.job_id, "abandoned: it may be what broke the device");
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
                    error.cause = telemetry::chain(error), "attempt failed");
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
        let settled = Settled {
            place,
            timings: self.timings,
            outcome,
            decided_at: Instant::now(),
        };
        // The channel is as long as the room is wide, so that it is never full; without a reader the process is ending.
        if let Err(error) = self.to_complete.try_send(settled) {
            tracing::error!(job.id = %self.claim.lease.job_id, error.cause = %error, "outcome not handed on");
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.place.is_some() {
            tracing::error!(job.id = %self.claim.lease.job_id, "work was dropped on its way: giving the job back");
            self.send(Outcome::Release);
        }
    }
}
