use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Calls `ask` every 10 ms until it returns a value. Panics if there is none within `limit`.
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let asked_at = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(
                Instant::now() < deadline,
                "not within {limit:?}: {what} ({asked_at})"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }
}
