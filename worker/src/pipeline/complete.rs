//! The complete stage: writes the outcomes of many jobs in one statement for each verb, fenced by `lease_no`.
//!
//! While Postgres cannot be reached, the stage tries again until the lease ends. Then other workers may claim the jobs.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    JobId, Problem, ProblemCode, db,
    job::StageError,
    queue::{self, Completion, Lease, QueueError},
};
use sqlx::PgConnection;
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
    let mut verbs = [
        Verb::Complete(vec![]),
        Verb::Fail(vec![]),
        Verb::Retry(vec![]),
        Verb::Release(vec![]),
    ];
    let mut places: [Vec<Place>; 4] = Default::default();
    for EndedAttempt {
        place,
        mut timings,
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
        let [
            Verb::Complete(completions),
            Verb::Fail(fails),
            Verb::Retry(retries),
            Verb::Release(releases),
        ] = &mut verbs
        else {
            unreachable!("as built above");
        };
        let verb = match outcome {
            Outcome::Succeeded(prediction) => {
                completions.push(Completion {
                    lease,
                    result: prediction.result,
                    timings: timings.to_json(),
                    forward_batch_size: prediction.batch_size.try_into().unwrap_or(i16::MAX),
                    forward_batch_position: prediction
                        .batch_position
                        .try_into()
                        .unwrap_or(i16::MAX),
                });
                0
            }
            Outcome::Fail(error) => {
                fails.push((lease, error.problem()));
                1
            }
            Outcome::Retry(error) => {
                retries.push((lease, error.problem()));
                2
            }
            Outcome::Release => {
                releases.push(lease);
                3
            }
        };
        places[verb].push(place);
    }
    let [complete, fail, retry, release] = verbs;
    let [completed, failed, retried, released] = places;
    tokio::join!(
        write_verb(context, complete, completed),
        write_verb(context, fail, failed),
        write_verb(context, retry, retried),
        write_verb(context, release, released),
    );
}

/// The outcomes of one statement.
#[derive(Debug, Clone)]
enum Verb {
    Complete(Vec<Completion>),
    Fail(Vec<(Lease, Problem)>),
    Retry(Vec<(Lease, Problem)>),
    Release(Vec<Lease>),
}

impl Verb {
    async fn run(&self, context: &StageContext) -> Result<Vec<JobId>, QueueError> {
        let write = async |db: &mut PgConnection| match self {
            Self::Complete(done) => queue::complete_on(db, done).await,
            Self::Fail(faults) => queue::fail_on(db, faults).await,
            Self::Retry(faults) => queue::retry_on(db, faults).await,
            Self::Release(leases) => queue::release_on(db, leases).await,
        };
        context.kept.run(write).await
    }

    /// The outcome at `index` alone.
    fn only(&self, index: usize) -> Self {
        match self {
            Self::Complete(done) => Self::Complete(vec![done[index].clone()]),
            Self::Fail(faults) => Self::Fail(vec![faults[index].clone()]),
            Self::Retry(faults) => Self::Retry(vec![faults[index].clone()]),
            Self::Release(leases) => Self::Release(vec![leases[index]]),
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Complete(_) => "succeeded",
            Self::Fail(_) => "failed",
            Self::Retry(_) => "retried",
            Self::Release(_) => "released",
        }
    }
}

/// Writes the outcomes of one verb; tries again until the lease ends. Then the places are free.
async fn write_verb(context: &StageContext, verb: Verb, places: Vec<Place>) {
    if places.is_empty() {
        return;
    }
    if try_verb(context, &verb, &places).await {
        return;
    }
    // Postgres refuses the whole statement because of one row. The other rows must still be written.
    for (index, place) in places.into_iter().enumerate() {
        let (one, place) = (verb.only(index), [place]);
        if try_verb(context, &one, &place).await {
            continue;
        }
        let lease = place[0].job.lease;
        tracing::error!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = one.outcome(), "the outcome cannot be stored");
        if let Verb::Complete(_) = one {
            let error = StageError::new(ProblemCode::Internal, "the result cannot be stored");
            try_verb(
                context,
                &Verb::Retry(vec![(lease, error.problem())]),
                &place,
            )
            .await;
        }
    }
}

/// Returns false if Postgres refuses a row, true if the rows are written or the lease has ended.
async fn try_verb(context: &StageContext, verb: &Verb, places: &[Place]) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let (mut is_first_write, began) = (true, Instant::now());
    loop {
        match Box::pin(verb.run(context)).await {
            Ok(written) => {
                context.notifier.changed(written.iter().copied());
                if matches!(verb, Verb::Release(_)) {
                    context.notifier.queued(queue::ANY_MODEL);
                }
                count_written(verb, places, &written, is_first_write);
                return true;
            }
            Err(QueueError::Db(sqlx::Error::Database(error)))
                if !db::is_passing(error.as_ref()) =>
            {
                tracing::error!(error.cause = %error, outcome = verb.outcome(), jobs.count = places.len(), "Postgres refuses the outcomes");
                return false;
            }
            Err(error) => {
                tracing::warn!(error.cause = %error, outcome = verb.outcome(), jobs.count = places.len(),
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

fn count_written(verb: &Verb, places: &[Place], written: &[JobId], is_first_write: bool) {
    metrics::counter!("darkroom_jobs_total", "outcome" => verb.outcome())
        .increment(written.len() as u64);
    if written.len() == places.len() {
        return;
    }
    let written: HashSet<JobId> = written.iter().copied().collect();
    let stale = places
        .iter()
        .map(|place| place.job.lease)
        .filter(|lease| !written.contains(&lease.job_id));
    for lease in stale {
        if is_first_write {
            report_stale(lease, verb.outcome());
        } else {
            tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = verb.outcome(),
                "the outcome was written by an earlier try, or is stale");
        }
    }
}

/// Logs and counts an outcome that was not written, because its lease has ended.
fn report_stale(lease: Lease, outcome: &'static str) {
    metrics::counter!("darkroom_stale_results_total").increment(1);
    tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome, "the outcome is stale: its lease has ended");
}
