//! `Retry-After` of jobs that have not ended, by what jobs of their model took lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::Utc;
use jobs::{
    Job,
    db::{Db, answered},
    queue,
};

/// The database is asked no more often, and only while somebody wants to know.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
const SECONDS_MAX: f64 = 60.0;

/// What jobs took lately.
#[derive(Debug)]
pub(crate) struct Pace {
    db: Db,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    p50_seconds: HashMap<String, f64>,
}

impl Pace {
    pub fn new(db: Db) -> Self {
        Self {
            db,
            seen: Mutex::default(),
        }
    }

    /// After how many seconds, 1 to 60, another look at an unended job is worth while.
    pub fn retry_after_seconds(self: &Arc<Self>, job: &Job) -> u32 {
        self.look_again();
        let seen = self.seen.lock().expect("no panic holds it");
        let usual = seen.p50_seconds.get(&job.model.name).copied();
        let waited = (Utc::now() - job.run_at).as_seconds_f64();
        estimate(usual.unwrap_or_default(), waited)
    }

    /// After how many seconds, 1 to 60, some job has probably ended.
    pub fn any_retry_after_seconds(self: &Arc<Self>) -> u32 {
        self.look_again();
        let seen = self.seen.lock().expect("no panic holds it");
        let usual = seen.p50_seconds.values().copied().reduce(f64::min);
        estimate(usual.unwrap_or_default(), 0.0)
    }

    /// In the background: whoever asks now gets what is known.
    fn look_again(self: &Arc<Self>) {
        let mut seen = self.seen.lock().expect("no panic holds it");
        if seen.at.is_some_and(|at| at.elapsed() < LOOKS_EVERY) {
            return;
        }
        seen.at = Some(Instant::now());
        let this = self.clone();
        tokio::spawn(async move {
            match answered(&this.db, queue::latency(&this.db)).await {
                Ok(models) => {
                    let mut seen = this.seen.lock().expect("no panic holds it");
                    let lately = models.into_iter().map(|one| (one.model, one.p50_seconds));
                    seen.p50_seconds.extend(lately);
                }
                Err(error) => tracing::debug!(error.cause = %error, "no latency measured"),
            }
        });
    }
}

/// What is left of the usual time; of a job that takes longer than usual, a tenth of what it has taken.
fn estimate(usual_seconds: f64, waited_seconds: f64) -> u32 {
    let left = (usual_seconds - waited_seconds).max(waited_seconds / 10.0);
    left.ceil().clamp(1.0, SECONDS_MAX) as u32
}

#[cfg(test)]
mod tests {
    use super::estimate;

    #[test]
    fn a_client_comes_back_when_the_job_is_probably_done_and_ever_more_seldom_after_that() {
        let cases = [
            ((0.0, 0.0), 1),
            ((0.05, 0.0), 1),
            ((20.0, 0.0), 20),
            ((20.0, 15.0), 5),
            ((20.0, 25.0), 3),
            ((0.0, 300.0), 30),
            ((0.0, 1e9), 60),
            ((1e9, 0.0), 60),
            // Due in half a minute.
            ((2.0, -30.0), 32),
        ];
        for ((usual, waited), seconds) in cases {
            assert_eq!(estimate(usual, waited), seconds, "{usual} {waited}");
        }
    }
}
