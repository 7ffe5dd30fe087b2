//! `Prefer: wait=N`: an answer that is held until there is news. A waiter costs a map entry, no thread and no query.

use std::time::Duration;

use actix_web::HttpRequest;
use jobs::{Job, JobId, queue::JobWatch};
use tokio::time::Instant;

use crate::{ctx::Ctx, error::ApiError, routes::own_job};

const SECONDS_MAX: u64 = 60;

/// How long the client would wait, if it said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preferred {
    seconds: u64,
    until: Instant,
}

impl Preferred {
    pub fn of(request: &HttpRequest) -> Option<Self> {
        let headers = request
            .headers()
            .get_all("prefer")
            .filter_map(|value| value.to_str().ok());
        let seconds = headers
            .flat_map(|value| value.split(','))
            .find_map(|preference| preference.trim().strip_prefix("wait="))?
            .trim_matches('"')
            .parse::<u64>()
            .ok()?
            .min(SECONDS_MAX);
        Some(Self {
            seconds,
            until: Instant::now() + Duration::from_secs(seconds),
        })
    }

    /// For `Preference-Applied`.
    pub fn applied(self) -> (&'static str, String) {
        ("Preference-Applied", format!("wait={}", self.seconds))
    }

    /// How much longer; `None` once time is up.
    pub fn left(self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// How much longer the answer may be held; `None` once time is up, or the process leaves.
    pub fn held(self, ctx: &Ctx) -> Option<Duration> {
        self.left().filter(|_| !*ctx.leaving.borrow())
    }

    /// Holds on until the job is as the client wants it, time is up, or the process leaves. `watch` was made before the job
    /// was last looked at.
    pub async fn until(
        self,
        ctx: &Ctx,
        watch: &JobWatch,
        mut job: Job,
        is_news: impl Fn(&Job) -> bool,
    ) -> Result<Job, ApiError> {
        while !is_news(&job) {
            let Some(left) = self.held(ctx) else {
                break;
            };
            watch.knows(job.version);
            let (id, owner) = only_its_name(job);
            changed(ctx, watch, left).await;
            // Boxed: a waiter has no need for its room.
            job = Box::pin(own_job(ctx, id, &owner)).await?;
        }
        Ok(job)
    }
}

/// Returns once there is news, after `longest`, or when the process leaves: it has less time than a client may want to wait.
pub(crate) async fn changed(ctx: &Ctx, watch: &JobWatch, longest: Duration) {
    tokio::select! { () = watch.changed(longest) => {} () = ctx.leaves() => {} }
}

/// A job has kilobytes, and there may be ten thousand who wait: it is read again anyway.
fn only_its_name(job: Job) -> (JobId, String) {
    (job.id, job.owner)
}
