//! Reports the loaded models for operators, in `ops.workers`.

use std::{sync::Arc, time::Duration};

use jobs::{db::answered, queue};

use super::context::StageContext;

/// How long a change may stay unreported.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the list of loaded models whenever the list or the registration has changed. A failed write is tried again at
/// the next check. Never returns.
pub(super) async fn report_loaded_models(context: Arc<StageContext>) {
    let worker = context.held_jobs.worker();
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    let mut reported = None;
    loop {
        checks.tick().await;
        let Some(worker) = *worker.borrow() else {
            continue;
        };
        let current = (worker, context.models.loaded());
        if reported.as_ref() == Some(&current) {
            continue;
        }
        let write = queue::report_loaded_models(&context.db, worker, &current.1);
        match answered(&context.db, write).await {
            Ok(()) => reported = Some(current),
            Err(error) => {
                tracing::debug!(error.cause = %error, "cannot report the loaded models; trying again");
            }
        }
    }
}
