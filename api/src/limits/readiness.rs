//! Whether this process is ready. `/readyz` needs no key, so its checks of Postgres and the bucket are shared.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::http::error::ApiError;

/// How long a check counts.
const COUNTS_FOR: Duration = Duration::from_secs(1);

/// When a check ended, and its result.
type Check = (Instant, Result<(), ApiError>);

/// The last check.
#[derive(Debug, Default, Clone)]
pub(crate) struct Readiness(Arc<Mutex<Option<Check>>>);

impl Readiness {
    /// The result of the last check, or of a new one if the last is older than a second. Concurrent callers share a check.
    ///
    /// # Errors
    /// What the check found.
    pub async fn check(
        &self,
        check: impl Future<Output = Result<(), ApiError>>,
    ) -> Result<(), ApiError> {
        let mut last = self.0.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < COUNTS_FOR
        {
            return result.clone();
        }
        let result = check.await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::Readiness;
    use crate::http::error::ApiError;

    #[tokio::test]
    async fn a_thousand_probes_in_a_second_cost_one_check() {
        let (readiness, checks) = (Readiness::default(), AtomicU32::new(0));
        let probes = (0..1000).map(|_| {
            readiness.check(async {
                checks.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Err(ApiError::not_found())
            })
        });
        let results = join_all(probes).await;
        assert!(results.iter().all(Result::is_err), "an error counts too");
        assert_eq!(checks.into_inner(), 1);
    }
}
