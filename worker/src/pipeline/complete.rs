//! The complete stage: settles many jobs of any outcome in one statement, fenced by `lease_no`.
//!
//! While Postgres cannot be reached, the stage tries again until the lease ends. Then other workers may claim the jobs.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use decode::Warning;
use jobs::{
    InputWarning, JobId, ProblemCode, db,
    job::StageError,
    queue::{self, Lease, QueueError, Settlement},
};
use tokio::sync::mpsc;

use super::{
    attempt::{EndedAttempt, Outcome, Place},
    context::StageContext,
    settings::PipelineSettings,
    stage::Stage,
};
use crate::{backoff::Backoff, held_jobs::HeldJobState};

/// Most jobs of one statement.
const WRITE_MAX: usize = 256;

/// How long an outcome waits for others to share its statement, while more than [`PipelineSettings::busy_jobs`] jobs are held.
/// Clients that wait for these jobs are woken together. With 32 waiting clients, 200 ms cost less CPU time for each job than
/// 100 ms, and the images per second did not change.
const GATHER_TIME: Duration = Duration::from_millis(200);

/// Writes outcomes until the channel is closed.
pub(super) async fn complete_all(
    context: Arc<StageContext>,
    mut outcomes: mpsc::Receiver<EndedAttempt>,
    settings: PipelineSettings,
) {
    let mut ended = Vec::new();
    while outcomes.recv_many(&mut ended, WRITE_MAX).await > 0 {
        // Other jobs may end soon and share the statement. The last held job never waits.
        let first_at = tokio::time::Instant::now();
        while ended.len() < WRITE_MAX && !context.drain.is_draining() {
            let running = context.held_jobs.len().saturating_sub(ended.len());
            let deadline = match running {
                0 => break,
                few if few <= settings.busy_jobs => first_at + settings.complete_wait,
                _ => first_at + settings.complete_wait.max(GATHER_TIME),
            };
            let more = outcomes.recv_many(&mut ended, WRITE_MAX);
            match tokio::time::timeout_at(deadline, more).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
        write(&context, std::mem::take(&mut ended)).await;
    }
}

async fn write(context: &StageContext, ended: Vec<EndedAttempt>) {
    let (mut settlements, mut places) = (Vec::new(), Vec::new());
    for EndedAttempt {
        place,
        mut timings,
        input_warnings,
        outcome,
        decided_at,
    } in ended
    {
        let lease = place.job.lease;
        match place.job.state() {
            HeldJobState::Wanted | HeldJobState::Decided => {}
            HeldJobState::Returned => continue,
            HeldJobState::Lost => {
                report_stale(lease, outcome.as_str());
                continue;
            }
        }
        timings.record(Stage::Complete, decided_at.elapsed());
        let outcome = match outcome {
            Outcome::Succeeded(prediction) => queue::Outcome::Succeeded(queue::Prediction {
                result: prediction.result,
                timings: timings.to_json(),
                input_warnings: input_warnings.into_iter().map(input_warning).collect(),
                forward_batch_size: prediction.batch_size.try_into().unwrap_or(i16::MAX),
                forward_batch_position: prediction.batch_position.try_into().unwrap_or(i16::MAX),
            }),
            Outcome::Fail(error) => queue::Outcome::Failed(error.problem()),
            Outcome::Retry(error) => queue::Outcome::Retried(error.problem()),
            Outcome::Postpone(error) => queue::Outcome::Postponed(error.problem()),
            Outcome::Release => queue::Outcome::Released,
        };
        settlements.push(Settlement { lease, outcome });
        places.push(place);
    }
    if settlements.is_empty() || try_settle(context, &settlements, &places).await {
        return;
    }
    // Postgres refuses the whole statement because of one row. The other rows must still be written.
    for (settlement, place) in settlements.into_iter().zip(places) {
        settle_alone(context, settlement, place).await;
    }
}

/// The warning as the job has it: `decode` does not know the contract.
fn input_warning(warning: Warning) -> InputWarning {
    match warning {
        Warning::BadHeader => InputWarning::BadHeader,
        Warning::BadChecksum => InputWarning::BadChecksum,
        Warning::BadMetadata => InputWarning::BadMetadata,
        Warning::StrayBytes => InputWarning::StrayBytes,
        Warning::MissingEnd => InputWarning::MissingEnd,
    }
}

/// Writes one outcome. A result that Postgres refuses counts as a failed attempt of the service.
async fn settle_alone(context: &StageContext, mut settlement: Settlement, place: Place) {
    let place = [place];
    if try_settle(context, std::slice::from_ref(&settlement), &place).await {
        return;
    }
    let Settlement { lease, outcome } = &settlement;
    tracing::error!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = outcome.as_str(), "the outcome cannot be stored");
    if let queue::Outcome::Succeeded(_) = outcome {
        let error = StageError::new(ProblemCode::Internal, "the result cannot be stored");
        settlement.outcome = queue::Outcome::Retried(error.problem());
        try_settle(context, &[settlement], &place).await;
    }
}

/// Returns false if Postgres refuses a row, true if the rows are written or the lease has ended.
async fn try_settle(context: &StageContext, settlements: &[Settlement], places: &[Place]) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let (mut is_first_write, began) = (true, Instant::now());
    loop {
        let write = context
            .statements
            .run(async |db| queue::settle(db, settlements).await);
        match Box::pin(write).await {
            Ok(written) => {
                context.notifier.changed(written.iter().copied());
                let is_release = |one: &Settlement| matches!(one.outcome, queue::Outcome::Released);
                if settlements.iter().any(is_release) {
                    context.notifier.queued(queue::ANY_MODEL);
                }
                count_written(settlements, &written, is_first_write);
                return true;
            }
            Err(QueueError::Db(sqlx::Error::Database(error)))
                if !db::is_passing(error.as_ref()) =>
            {
                tracing::error!(error.cause = %error, jobs.count = places.len(), "Postgres refuses the outcomes");
                return false;
            }
            Err(error) => {
                tracing::warn!(error.cause = %error, jobs.count = places.len(),
                    waited_ms = began.elapsed().as_millis() as u64, "cannot write outcomes; trying again");
                // The statement may have been committed. Then the next try finds no leases.
                is_first_write = false;
            }
        }
        backoff.sleep().await;
        if places
            .iter()
            .all(|place| place.job.state() == HeldJobState::Lost)
        {
            metrics::counter!("darkroom_stale_results_total").increment(places.len() as u64);
            return true;
        }
    }
}

fn count_written(settlements: &[Settlement], written: &[JobId], is_first_write: bool) {
    let written: HashSet<JobId> = written.iter().copied().collect();
    for Settlement { lease, outcome } in settlements {
        let outcome = outcome.as_str();
        if written.contains(&lease.job_id) {
            metrics::counter!("darkroom_jobs_total", "outcome" => outcome).increment(1);
        } else if is_first_write {
            report_stale(*lease, outcome);
        } else {
            tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome,
                "the outcome was written by an earlier try, or is stale");
        }
    }
}

/// Logs and counts an outcome that was not written, because its lease has ended.
fn report_stale(lease: Lease, outcome: &'static str) {
    metrics::counter!("darkroom_stale_results_total").increment(1);
    tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome, "the outcome is stale: its lease has ended");
}
