//! A pause of claiming while S3 or the model registry cannot be reached, or lacks what the database names.
//!
//! A release costs a job nothing. So without a pause the worker would claim and release jobs all the time.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::backoff::{Backoff, with_jitter};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// A worker with another bucket than the API delays each job that it claims.
const LONGEST_OF_FAULTS: Duration = Duration::from_mins(1);

/// The pause that all stages share.
#[derive(Debug, Default)]
pub(super) struct ClaimPause(Mutex<Option<Outage>>);

/// An outage, from its first report to the next success.
#[derive(Debug, Clone, Copy)]
struct Outage {
    backoff: Backoff,
    paused_until: Instant,
}

impl ClaimPause {
    /// Records that S3 or the model registry could not be reached. Reports during a pause change nothing, so that many
    /// jobs of one outage lengthen the pause once and make one line in the log.
    pub(super) fn report_outage(&self, cause: &str) {
        if let Some(pause) = self.pause(LONGEST) {
            tracing::warn!(
                error.cause = cause,
                pause_ms = pause.as_millis() as u64,
                "S3 or the model registry cannot be reached; releasing jobs and pausing claims"
            );
        }
    }

    /// Records that too many objects in a row are missing.
    pub(super) fn report_faults(&self, fault: &str) {
        if let Some(pause) = self.pause(LONGEST_OF_FAULTS) {
            tracing::error!(
                error.cause = fault,
                pause_ms = pause.as_millis() as u64,
                "the bucket lacks what the database names: check DARKROOM_S3_BUCKET and the endpoint; pausing claims"
            );
        }
    }

    /// Begins a pause and returns its length; `None` during a pause.
    fn pause(&self, longest: Duration) -> Option<Duration> {
        let now = Instant::now();
        let mut outage = self.outage();
        if outage.is_some_and(|outage| outage.paused_until > now) {
            return None;
        }
        // The latest report decides how long a pause may be, not the report that began the outage.
        let mut backoff = match *outage {
            Some(outage) => outage.backoff.limited_to(longest),
            None => Backoff::new(FIRST, longest),
        };
        let pause = backoff.next_delay();
        let paused_until = now + with_jitter(pause);
        *outage = Some(Outage {
            backoff,
            paused_until,
        });
        Some(pause)
    }

    /// Records that S3 and the model registry were reached: the outage is over.
    pub(super) fn report_success(&self) {
        *self.outage() = None;
    }

    /// Whether the last report was an outage.
    pub(super) fn has_outage(&self) -> bool {
        self.outage().is_some()
    }

    /// How much of the pause is left; zero without an outage.
    pub(super) fn time_left(&self) -> Duration {
        self.outage().map_or(Duration::ZERO, |outage| {
            outage
                .paused_until
                .saturating_duration_since(Instant::now())
        })
    }

    fn outage(&self) -> MutexGuard<'_, Option<Outage>> {
        self.0.lock().expect("no panic while it is held")
    }
}
