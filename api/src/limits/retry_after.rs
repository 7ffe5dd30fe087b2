//! `Retry-After` of unended jobs, from the recent latency of their model.

use jobs::db::Db;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chrono::Utc;
use jobs::{Job, db::answered, queue};

/// How often the latency is read, while clients ask for unended jobs.
const READ_EVERY: Duration = Duration::from_secs(5);
const SECONDS_MAX: f64 = 60.0;

/// Estimates when a job will end.
#[derive(Debug)]
pub(crate) struct RetryAfter {
    db: Db,
    latency: Mutex<Latency>,
}

#[derive(Debug, Default)]
struct Latency {
    read_at: Option<Instant>,
    /// Median time from `run_at` to the end of a job, by model.
    p50_seconds: HashMap<String, f64>,
}

impl RetryAfter {
    pub fn new(db: Db) -> Self {
        Self {
            db,
            latency: Mutex::default(),
        }
    }

    /// Seconds, 1 to 60, until this job has probably ended.
    pub fn seconds(self: &Arc<Self>, job: &Job) -> u32 {
        self.refresh();
        let latency = self.latency.lock().expect("no panic holds it");
        let usual = latency.p50_seconds.get(&job.model.name).copied();
        let waited = (Utc::now() - job.run_at).as_seconds_f64();
        estimate(usual.unwrap_or_default(), waited)
    }

    /// Seconds, 1 to 60, until some job has probably ended.
    pub fn seconds_of_any_job(self: &Arc<Self>) -> u32 {
        self.refresh();
        let latency = self.latency.lock().expect("no panic holds it");
        let usual = latency.p50_seconds.values().copied().reduce(f64::min);
        estimate(usual.unwrap_or_default(), 0.0)
    }

    /// Reads the latency in the background, if the last reading is too old. Callers use what is known now.
    fn refresh(self: &Arc<Self>) {
        let mut latency = self.latency.lock().expect("no panic holds it");
        if latency.read_at.is_some_and(|at| at.elapsed() < READ_EVERY) {
            return;
        }
        latency.read_at = Some(Instant::now());
        let this = self.clone();
        tokio::spawn(async move {
            match answered(&this.db, queue::latency(&this.db)).await {
                Ok(models) => {
                    let mut latency = this.latency.lock().expect("no panic holds it");
                    let lately = models.into_iter().map(|one| (one.model, one.p50_seconds));
                    latency.p50_seconds.extend(lately);
                }
                Err(error) => {
                    tracing::debug!(error.cause = %error, "cannot read the latency of models; the last one stays in use");
                }
            }
        });
    }
}

/// The rest of the usual time. For a job that takes longer than usual: a tenth of the time so far.
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
