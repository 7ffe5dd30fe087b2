use serde_json::Value;
use sqlx::PgExecutor;

use super::{Lease, QueueError};
use crate::{InputWarning, JobId, Problem};

/// What one attempt came to, and the lease that entitles its worker to say so.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub lease: Lease,
    pub outcome: Outcome,
}

/// How an attempt ended, as its worker tells it. The SQL function `settle` says what each outcome does to the job.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The job ends with its result.
    Succeeded(Prediction),
    /// The image's trouble: the job ends, because a second try would fail too.
    Failed(Problem),
    /// The service's trouble: the job backs off, or ends when its attempts are used up.
    Retried(Problem),
    /// The store does not have what the database names: the job backs off, and the attempt is not charged.
    Postponed(Problem),
    /// The worker leaves: the job returns to its place in the queue, and the attempt is not charged.
    Released,
}

/// A result and how it was made.
#[derive(Debug, Clone)]
pub struct Prediction {
    pub result: Value,
    /// Stage to milliseconds: `fetch`, `decode`, `preprocess`, `batch_wait`, `infer`, `postprocess`, `complete`.
    pub timings: Value,
    /// What is wrong with the file of the image; most images have nothing.
    pub input_warnings: Vec<InputWarning>,
    /// Images of the forward batch.
    pub forward_batch_size: i16,
    /// Place of this image in the forward batch, from 0.
    pub forward_batch_position: i16,
}

impl Outcome {
    /// The word that the database knows.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Retried(_) => "retried",
            Self::Postponed(_) => "postponed",
            Self::Released => "released",
        }
    }

    fn problem(&self) -> Option<Value> {
        match self {
            Self::Failed(problem) | Self::Retried(problem) | Self::Postponed(problem) => {
                Some(problem.to_json())
            }
            Self::Succeeded(_) | Self::Released => None,
        }
    }

    fn prediction(&self) -> Option<&Prediction> {
        match self {
            Self::Succeeded(prediction) => Some(prediction),
            _ => None,
        }
    }

    /// The codes of the warnings as one text, separated by commas; `None` if there are none.
    fn input_warnings(&self) -> Option<String> {
        let warnings = &self.prediction()?.input_warnings;
        let codes: Vec<_> = warnings.iter().map(|warning| warning.as_str()).collect();
        (!codes.is_empty()).then(|| codes.join(","))
    }
}

/// Settles attempts of any outcome in one statement. Returns the jobs that the leases still held; for the others nothing is
/// written. The statement locks rows in the order that it gets, so this function sorts them by id: two calls cannot deadlock.
///
/// # Errors
/// Postgres is away: jobs whose outcome was not written come back when the worker's lease runs out.
pub async fn settle(
    db: impl PgExecutor<'_>,
    settlements: &[Settlement],
) -> Result<Vec<JobId>, QueueError> {
    let mut settlements: Vec<_> = settlements.iter().collect();
    settlements.sort_unstable_by_key(|one| one.lease.job_id.uuid());
    let leases = settlements.iter().map(|one| one.lease);
    let (ids, lease_nos): (Vec<_>, Vec<_>) = leases
        .map(|lease| (lease.job_id.uuid(), lease.lease_no.0))
        .unzip();
    let outcomes = || settlements.iter().map(|one| &one.outcome);
    let predictions = || outcomes().map(Outcome::prediction);
    let words: Vec<_> = outcomes().map(|one| one.as_str().to_owned()).collect();
    let problems: Vec<_> = outcomes().map(Outcome::problem).collect();
    let results: Vec<_> = predictions()
        .map(|one| one.map(|one| &one.result))
        .collect();
    let timings: Vec<_> = predictions()
        .map(|one| one.map(|one| &one.timings))
        .collect();
    let sizes: Vec<_> = predictions()
        .map(|one| one.map(|one| one.forward_batch_size))
        .collect();
    let positions: Vec<_> = predictions()
        .map(|one| one.map(|one| one.forward_batch_position))
        .collect();
    // An array of nulls would say no more than an empty array, and most calls have no warning.
    let mut input_warnings: Vec<_> = outcomes().map(Outcome::input_warnings).collect();
    if input_warnings.iter().all(Option::is_none) {
        input_warnings.clear();
    }
    let settled = sqlx::query_file_scalar!(
        "src/queue/settle.sql",
        &ids,
        &lease_nos,
        &words,
        &problems as &[Option<Value>],
        &results as &[Option<&Value>],
        &timings as &[Option<&Value>],
        &sizes as &[Option<i16>],
        &positions as &[Option<i16>],
        &input_warnings as &[Option<String>]
    );
    let settled = settled.fetch_one(db).await?;
    Ok(settled.into_iter().map(JobId::from).collect())
}

/// Releases jobs: each returns to its place in the queue, or ends if its cancel was requested. Returns the jobs that the leases
/// still held.
///
/// # Errors
/// As [`settle`].
pub async fn release(db: impl PgExecutor<'_>, leases: &[Lease]) -> Result<Vec<JobId>, QueueError> {
    let settlements = leases.iter().map(|&lease| Settlement {
        lease,
        outcome: Outcome::Released,
    });
    settle(db, &settlements.collect::<Vec<_>>()).await
}
