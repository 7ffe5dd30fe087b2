//! Reports for operators that the bucket lacks many images in a row: in `ops.workers` and `ops.health`.

use std::{sync::Arc, time::Duration};

use jobs::{db::answered, queue};

use super::context::StageContext;

/// How long a change may stay unreported.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the fault whenever it or the registration has changed. A failed write is tried again at the next check. Never
/// returns.
pub(super) async fn report_store_fault(context: Arc<StageContext>) {
    let worker = context.held_jobs.worker();
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    let mut reported = None;
    loop {
        checks.tick().await;
        let Some(worker) = *worker.borrow() else {
            continue;
        };
        let current = (worker, context.store_faults.description());
        // The row of a new registration has no fault.
        let was_reported = match &reported {
            Some((of, fault)) if *of == worker => *fault == current.1,
            _ => current.1.is_none(),
        };
        if was_reported {
            continue;
        }
        let write = queue::report_store_fault(&context.db, worker, current.1.as_deref());
        match answered(&context.db, write).await {
            Ok(()) => reported = Some(current),
            Err(error) => {
                tracing::debug!(error.cause = %error, "cannot report the fault of the bucket; trying again");
            }
        }
    }
}
