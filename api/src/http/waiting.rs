//! Long polling: `Prefer: wait=N` holds an answer until something changes. A waiter needs no thread and no query.

use std::time::Duration;

use actix_web::HttpRequest;
use jobs::queue::JobWatch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SECONDS_MAX: u64 = 60;

/// How long the client wants to wait: `Prefer: wait=N`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitPreference {
    seconds: u64,
    until: Instant,
}

impl WaitPreference {
    /// The preference of a request, at most 60 seconds from now; `None` without one.
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

    /// The header `Preference-Applied`.
    pub fn applied(self) -> (&'static str, String) {
        ("Preference-Applied", format!("wait={}", self.seconds))
    }

    /// How much longer to hold the answer; `None` once the time is over or the process shuts down.
    pub fn remaining(self, shutdown: &CancellationToken) -> Option<Duration> {
        let remaining = self.until.saturating_duration_since(Instant::now());
        (!remaining.is_zero() && !shutdown.is_cancelled()).then_some(remaining)
    }
}

/// Returns after a change, after `longest`, or when the process shuts down: whether there was a change.
///
/// The shutdown ends every wait, because the process has less time than clients may want to wait.
pub(crate) async fn wait_for_change(
    shutdown: &CancellationToken,
    watch: &JobWatch,
    longest: Duration,
) -> bool {
    let changed = shutdown.run_until_cancelled(watch.changed(longest)).await;
    changed.unwrap_or(false)
}
