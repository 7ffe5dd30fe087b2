//! What operators see of the loaded models, in `ops.workers`.

use std::{sync::Arc, time::Duration};

use jobs::{db::answered, queue};

use super::Shared;

/// How soon a change is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Writes down what is loaded whenever that, or the registration, has changed. What could not be written is at the next look.
pub(super) async fn show_loaded(shared: Arc<Shared>) {
    let worker = shared.holdings.worker();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut shown = None;
    loop {
        looks.tick().await;
        let Some(worker) = *worker.borrow() else {
            continue;
        };
        let now = (worker, shared.models.loaded());
        if shown.as_ref() == Some(&now) {
            continue;
        }
        let written = queue::report_loaded_models(&shared.db, worker, &now.1);
        match answered(&shared.db, written).await {
            Ok(()) => shown = Some(now),
            Err(error) => tracing::debug!(error.cause = %error, "what is loaded is not shown yet"),
        }
    }
}
