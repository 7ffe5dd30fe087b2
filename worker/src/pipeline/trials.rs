//! Loads models without a job: new versions before aliases may move to them (trials), and versions that an operator wants to be
//! loaded before an alias moves (prefetches).
//!
//! Both use the load of a job: the model stays loaded, and the usual limits hold. One load runs at a time. So a job that needs
//! another model waits for at most the rest of this load.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    WorkerId,
    db::answered,
    models::{self, Trial, Verdict, WantedPrefetch},
    queue::WorkerListener,
};
use tokio::time::sleep;

use super::context::StageContext;
use crate::{
    backoff::{Backoff, with_jitter},
    drain::Phase,
    models::LoadError,
};

/// Longest time between two looks when no wake-up arrives.
const POLL_INTERVAL: Duration = Duration::from_secs(15);
/// How long this worker leaves a version to other workers after it could not decide.
const PASSED_OVER_FOR: Duration = Duration::from_mins(1);
/// How long a worker with jobs lets idle workers go first.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// How long a worker that has no room for all of its models lets other workers go first.
const CROWDED_WAIT: Duration = Duration::from_secs(10);
/// Prefetches that are remembered as done. More requests within ten minutes can only be a mistake.
const DONE_MAX: usize = 1000;

/// Takes trials, if `tries`, and prefetches, until the worker drains.
pub(super) async fn load_when_asked(
    context: Arc<StageContext>,
    listener: WorkerListener,
    tries: bool,
) {
    let loads = async {
        let mut loads = Loads::default();
        let mut worker = context.held_jobs.worker();
        loop {
            // Fails only if the sender is dropped, and `held_jobs` keeps it.
            let Some(worker) = worker
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|id| *id)
            else {
                return;
            };
            loads.prefetch(&context, worker).await;
            if !(tries && loads.run_next_trial(&context, worker).await) {
                listener.trials(with_jitter(POLL_INTERVAL)).await;
            }
        }
    };
    // A trial that is left here goes to another worker: housekeeping sees that this worker left.
    tokio::select! {
        () = loads => {}
        () = context.drain.reached(Phase::Finishing) => {}
    }
}

/// What this worker loaded without a job lately.
#[derive(Debug, Default)]
struct Loads {
    /// Versions that this worker could not decide, and when.
    passed_over: HashMap<i64, Instant>,
    prefetched: Vec<WantedPrefetch>,
}

impl Loads {
    /// Tries one version, if there is one to try. Returns whether there was.
    async fn run_next_trial(&mut self, context: &StageContext, worker: WorkerId) -> bool {
        self.passed_over
            .retain(|_, since| since.elapsed() < PASSED_OVER_FOR);
        wait_for_others(context).await;
        let passed_over: Vec<_> = self.passed_over.keys().copied().collect();
        let claim = models::claim_trial(&context.db, worker, &passed_over);
        let trial = match answered(&context.db, claim).await {
            Ok(Some(trial)) => trial,
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(error.cause = %error, "cannot look for trials; trying again");
                return false;
            }
        };
        let loaded = context.models.get(trial.version_id).await;
        let loaded = loaded.map(|model| model.warnings());
        let has_lost_device = matches!(loaded, Err(LoadError::DeviceLost(_)));
        let verdict = verdict(loaded);
        if matches!(verdict, Verdict::Failed(_) | Verdict::Released(_)) {
            self.passed_over.insert(trial.version_id, Instant::now());
        }
        end(context, trial, &verdict).await;
        if let Verdict::Failed(cause) = &verdict
            && has_lost_device
        {
            let drain = &context.drain;
            drain.fail(&format!("the device does not respond any more: {cause}"));
        }
        true
    }

    /// Loads the versions that operators asked for, each once for a request.
    async fn prefetch(&mut self, context: &StageContext, worker: WorkerId) {
        let wanted = models::wanted_prefetches(&context.db, worker);
        let wanted = match answered(&context.db, wanted).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(error.cause = %error, "cannot look for prefetches; trying again");
                return;
            }
        };
        for one in wanted {
            if self.prefetched.contains(&one) {
                continue;
            }
            // The log and the version have the cause of a failure.
            let loaded = context.models.get(one.version_id).await;
            if matches!(
                loaded,
                Err(LoadError::Unavailable(_) | LoadError::Absent(_))
            ) {
                continue; // until the next look
            }
            if self.prefetched.len() == DONE_MAX {
                self.prefetched.remove(0);
            }
            self.prefetched.push(one);
        }
    }
}

/// A worker without jobs, and with room, should load new versions: a load slows the jobs that run beside it.
async fn wait_for_others(context: &StageContext) {
    if context.models.loaded_if_crowded().is_some() {
        sleep(CROWDED_WAIT).await;
    } else if !context.held_jobs.is_empty() {
        sleep(BUSY_WAIT).await;
    }
}

/// `loaded`: the warnings about the model, if it was loaded.
fn verdict(loaded: Result<Option<String>, LoadError>) -> Verdict {
    match loaded {
        Ok(None) => Verdict::Loaded,
        Ok(Some(warning)) => Verdict::LoadedWithWarning(warning),
        Err(LoadError::Broken(cause)) => Verdict::Refused(cause),
        Err(LoadError::Unreliable(cause)) => Verdict::Refused(cause.to_string()),
        Err(LoadError::TooLarge(cause) | LoadError::DeviceLost(cause)) => Verdict::Failed(cause),
        Err(LoadError::Unavailable(cause) | LoadError::Absent(cause)) => Verdict::Released(cause),
    }
}

/// Writes the verdict; tries again until it is written or this worker has lost the trial.
async fn end(context: &StageContext, trial: Trial, verdict: &Verdict) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let ended = models::end_trial(&context.db, trial, verdict);
        match answered(&context.db, ended).await {
            Ok(Some(state)) => {
                tracing::info!(
                    version.id = trial.version_id,
                    version.state = state.as_str(),
                    "a trial ended"
                );
                return;
            }
            Ok(None) => {
                tracing::warn!(
                    version.id = trial.version_id,
                    "the trial was lost meanwhile; dropping its verdict"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(error.cause = %error, "cannot write the verdict of a trial; trying again");
                backoff.sleep().await;
            }
        }
    }
}
