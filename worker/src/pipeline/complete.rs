//! Completing: outcomes of many jobs in one statement for each verb, fenced by `lease_no`.
//!
//! While Postgres is away the statements are tried again for as long as the lease lives; after that the jobs are others'.

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
    Outcome, Shared, Stage, Widths,
    work::{Place, Settled},
};
use crate::{holdings::Standing, lease::jitter};

/// Most jobs of one statement.
const WRITE_MAX: usize = 256;

/// How long results may gather, to share a statement, while there is [enough](Widths::enough) to do. Whoever waits for them
/// is woken together, and asks for more together: API, Postgres and S3 took 4.1 and 4.7 ms of CPU a job with 200 ms, and 4.7,
/// 4.9 and 5.2 with 100 (32 clients that wait, two cores, runs in turns; images/s and waiting alike).
const GATHER: Duration = Duration::from_millis(200);

/// Writes outcomes as they come, until there are no more.
pub(super) async fn complete_all(
    shared: Arc<Shared>,
    mut outcomes: mpsc::Receiver<Settled>,
    widths: Widths,
) {
    let mut settled = Vec::new();
    while outcomes.recv_many(&mut settled, WRITE_MAX).await > 0 {
        // Others on their way may share the statement; the last one never waits.
        let first = tokio::time::Instant::now();
        while settled.len() < WRITE_MAX && !shared.drain.is_draining() {
            let under_way = shared.holdings.len().saturating_sub(settled.len());
            let last = match under_way {
                0 => break,
                few if few <= widths.enough => first + widths.complete_wait,
                _ => first + widths.complete_wait.max(GATHER),
            };
            let more = outcomes.recv_many(&mut settled, WRITE_MAX);
            match tokio::time::timeout_at(last, more).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
        write(&shared, std::mem::take(&mut settled)).await;
    }
}

async fn write(shared: &Shared, settled: Vec<Settled>) {
    let mut verbs = [
        Verb::Complete(vec![]),
        Verb::Fail(vec![]),
        Verb::Retry(vec![]),
        Verb::Release(vec![]),
    ];
    let mut places: [Vec<Place>; 4] = Default::default();
    for Settled {
        place,
        mut timings,
        outcome,
        decided_at,
    } in settled
    {
        let lease = place.job.lease;
        match place.job.standing() {
            Standing::Wanted | Standing::Decided => {}
            Standing::Returned => continue,
            Standing::Lost => {
                dropped(lease, &outcome);
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
        write_verb(shared, complete, completed),
        write_verb(shared, fail, failed),
        write_verb(shared, retry, retried),
        write_verb(shared, release, released),
    );
}

/// One statement's worth of outcomes.
#[derive(Debug, Clone)]
enum Verb {
    Complete(Vec<Completion>),
    Fail(Vec<(Lease, Problem)>),
    Retry(Vec<(Lease, Problem)>),
    Release(Vec<Lease>),
}

impl Verb {
    async fn run(&self, shared: &Shared) -> Result<Vec<JobId>, QueueError> {
        let write = async |db: &mut PgConnection| match self {
            Self::Complete(done) => queue::complete_on(db, done).await,
            Self::Fail(faults) => queue::fail_on(db, faults).await,
            Self::Retry(faults) => queue::retry_on(db, faults).await,
            Self::Release(leases) => queue::release_on(db, leases).await,
        };
        shared.kept.run(write).await
    }

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

/// Writes one verb's outcomes, however long it takes while the lease lives. The places are freed at the end.
async fn write_verb(shared: &Shared, verb: Verb, places: Vec<Place>) {
    if places.is_empty() {
        return;
    }
    if try_verb(shared, &verb, &places).await {
        return;
    }
    // Postgres refuses the statement as such: one of the rows is to blame, and only that one may suffer.
    for (index, place) in places.into_iter().enumerate() {
        let (one, place) = (verb.only(index), [place]);
        if try_verb(shared, &one, &place).await {
            continue;
        }
        let lease = place[0].job.lease;
        tracing::error!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = one.outcome(), "outcome cannot be stored");
        if let Verb::Complete(_) = one {
            let error = StageError::new(ProblemCode::Internal, "the result cannot be stored");
            try_verb(shared, &Verb::Retry(vec![(lease, error.problem())]), &place).await;
        }
    }
}

/// False when Postgres refuses the rows themselves.
async fn try_verb(shared: &Shared, verb: &Verb, places: &[Place]) -> bool {
    let mut pause = Duration::from_millis(50);
    let (mut sure, began) = (true, Instant::now());
    loop {
        match Box::pin(verb.run(shared)).await {
            Ok(written) => {
                shared.notifier.changed(written.iter().copied());
                if matches!(verb, Verb::Release(_)) {
                    shared.notifier.queued(queue::ANY_MODEL);
                }
                count(verb, places, &written, sure);
                return true;
            }
            Err(QueueError::Db(sqlx::Error::Database(error)))
                if !db::is_passing(error.as_ref()) =>
            {
                tracing::error!(error.cause = %error, outcome = verb.outcome(), jobs.count = places.len(), "Postgres refuses");
                return false;
            }
            Err(error) => {
                tracing::warn!(error.cause = %error, outcome = verb.outcome(), jobs.count = places.len(),
                    waited_ms = began.elapsed().as_millis() as u64, "outcomes not written; trying again");
                // It may have been written all the same: then the next try finds the leases gone.
                sure = false;
            }
        }
        tokio::time::sleep(jitter(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(2));
        if places
            .iter()
            .all(|place| place.job.standing() == Standing::Lost)
        {
            metrics::counter!("darkroom_stale_results_total").increment(places.len() as u64);
            return true;
        }
    }
}

fn count(verb: &Verb, places: &[Place], written: &[JobId], sure: bool) {
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
        if sure {
            metrics::counter!("darkroom_stale_results_total").increment(1);
            tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = verb.outcome(), "stale: dropped, the lease was gone");
        } else {
            tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = verb.outcome(), "written by an earlier try, or stale");
        }
    }
}

fn dropped(lease: Lease, outcome: &Outcome) {
    metrics::counter!("darkroom_stale_results_total").increment(1);
    tracing::info!(job.id = %lease.job_id, lease.no = %lease.lease_no, outcome = outcome.as_str(), "stale: dropped, the lease was gone");
}
