use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use chrono::{DateTime, SubsecRound, Utc};
use serde_json::{Map, Value};
use sqlx::{PgExecutor, PgPool, postgres::PgDatabaseError, types::Json};
use uuid::Uuid;

use super::{IdempotencyKey, QueueError};
use crate::{
    JobId, JobState, LeaseNo,
    images::Image,
    job::{BatchMember, Job, JobImage},
    models::Resolved,
};

/// A checked job that may be queued. Its image is in the object store.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: JobId,
    pub owner: String,
    pub model: Resolved,
    pub image: Image,
    /// Parameters, including the model's defaults.
    pub params: Map<String, Value>,
    pub metadata: Map<String, Value>,
    pub priority: i16,
    /// Earliest start; now if `None` or past.
    pub run_at: Option<DateTime<Utc>>,
    pub deadline: Option<DateTime<Utc>>,
    pub retain_seconds: f64,
    pub attempt_timeout_seconds: i32,
    pub attempts_max: i16,
    pub interruptions_max: i16,
    pub trace_parent: Option<String>,
    pub idempotency: Option<IdempotencyKey>,
    pub member: Option<BatchMember>,
    /// Receiver of this job's events, besides the owner's endpoints.
    pub webhook_url: Option<String>,
}

/// What the jobs of a batch have in common: the statement gets each different set once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Terms<'a> {
    model_version_id: i64,
    model_ref: &'a str,
    /// The bits of an `f64`, which has no `Eq`.
    retain_seconds: u64,
    attempt_timeout_seconds: i32,
    attempts_max: i16,
    interruptions_max: i16,
    batch: Option<Uuid>,
    webhook_url: Option<&'a str>,
}

/// What the database assigned to a new job.
#[derive(Debug, Clone)]
pub struct Enqueued {
    pub job_id: JobId,
    pub state: JobState,
    pub created_at: DateTime<Utc>,
    pub run_at: DateTime<Utc>,
}

impl NewJob {
    /// A job that is due now, at priority 0 and with the limits that `ops.enqueue` gives a job by default.
    pub fn new(
        owner: impl Into<String>,
        model: Resolved,
        image: Image,
        params: Map<String, Value>,
    ) -> Self {
        Self {
            id: JobId::now(),
            owner: owner.into(),
            model,
            image,
            params,
            metadata: Map::new(),
            priority: 0,
            run_at: None,
            deadline: None,
            retain_seconds: 30.0 * 86_400.0,
            attempt_timeout_seconds: 120,
            attempts_max: 3,
            interruptions_max: 5,
            trace_parent: None,
            idempotency: None,
            member: None,
            webhook_url: None,
        }
    }

    /// Whether the prediction of an earlier job is an answer: no field asks for something that only a job of its own can do.
    pub fn can_be_answered_by_earlier_job(&self) -> bool {
        self.run_at.is_none()
            && self.deadline.is_none()
            && self.webhook_url.is_none()
            && self.member.is_none()
    }

    /// What the statement assigned, given the time of its transaction.
    fn enqueued(&self, created_at: DateTime<Utc>) -> Enqueued {
        // The database keeps microseconds.
        let run_at = self.run_at.map(|at| at.trunc_subsecs(6));
        let state = match run_at {
            Some(run_at) if run_at > created_at => JobState::Scheduled,
            _ => JobState::Queued,
        };
        Enqueued {
            job_id: self.id,
            state,
            created_at,
            run_at: run_at.map_or(created_at, |at| at.max(created_at)),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            model_version_id: self.model.model_version_id,
            model_ref: &self.model.model_ref,
            retain_seconds: self.retain_seconds.to_bits(),
            attempt_timeout_seconds: self.attempt_timeout_seconds,
            attempts_max: self.attempts_max,
            interruptions_max: self.interruptions_max,
            batch: self.member.as_ref().map(|member| member.batch.uuid()),
            webhook_url: self.webhook_url.as_deref(),
        }
    }

    /// The job as [`find`](super::find()) would return it right after the commit.
    pub fn into_job(self, enqueued: &Enqueued) -> Job {
        Job {
            id: self.id,
            version: 1,
            state: enqueued.state,
            owner: self.owner,
            task: self.model.manifest.task.to_string(),
            model_ref: self.model.model_ref,
            model: self.model.model,
            image: JobImage {
                sha256: self.image.sha256,
                content_type: Some(self.image.content_type),
                bytes: Some(self.image.bytes),
                width: Some(self.image.width),
                height: Some(self.image.height),
                warnings: Vec::new(),
            },
            params: self.params.into(),
            metadata: self.metadata.into(),
            priority: self.priority,
            created_at: enqueued.created_at,
            run_at: enqueued.run_at,
            started_at: None,
            finished_at: None,
            deadline: self.deadline,
            retain_until: None,
            cancel_requested: false,
            lease_no: LeaseNo(0),
            attempts_started: 0,
            attempts_charged: 0,
            attempts_max: self.attempts_max,
            interruptions: 0,
            interruptions_max: self.interruptions_max,
            worker: None,
            device: None,
            result: None,
            problem: None,
            timings: None,
            forward_batch_size: None,
            forward_batch_position: None,
            trace_parent: self.trace_parent,
            member: self.member,
            webhook_url: self.webhook_url,
            purged_at: None,
        }
    }
}

/// Queues all jobs or none, with the rows of their images. Only jobs whose idempotency key was used before are left out.
/// Committed when it returns.
///
/// # Errors
/// Postgres is away, or refuses a value; [`QueueError::ImagePurged`] if one of the images was purged meanwhile.
pub async fn enqueue(db: &PgPool, jobs: &[NewJob]) -> Result<Vec<Enqueued>, QueueError> {
    enqueue_on(db, jobs).await
}

/// As [`enqueue`], on a connection of the caller.
pub(super) async fn enqueue_on(
    db: impl PgExecutor<'_>,
    jobs: &[NewJob],
) -> Result<Vec<Enqueued>, QueueError> {
    let (mut lanes, mut images, mut terms) = (
        Numbered::default(),
        Numbered::default(),
        Numbered::default(),
    );
    let (mut lane_nos, mut nths) = (Vec::new(), Vec::new());
    let (mut image_nos, mut terms_nos) = (Vec::new(), Vec::new());
    for job in jobs {
        let lane = (job.model.model_id, job.priority, job.owner.as_str());
        let (lane_no, nth) = lanes.enter(lane, job);
        lane_nos.push(lane_no);
        nths.push(nth);
        image_nos.push(images.enter((job.owner.as_str(), job.image.sha256), job).0);
        terms_nos.push(terms.enter(job.terms(), job).0);
    }
    let images = column(&images.firsts, |job| (&job.owner, &job.image));
    let terms = column(&terms.firsts, |job| job.terms());
    let keyed: Vec<_> = jobs
        .iter()
        .filter_map(|job| Some((job, job.idempotency.as_ref()?)))
        .collect();
    let row = sqlx::query_file!(
        "src/queue/enqueue.sql",
        &column(jobs, |job| job.id.uuid()),
        &terms_nos,
        &nths,
        &image_nos,
        &column(jobs, |job| job.image.sha256.as_bytes().as_slice()) as &[&[u8]],
        &column(jobs, |job| Json(&job.params)) as &[Json<&Map<_, _>>],
        &column(jobs, |job| Json(&job.metadata)) as &[Json<&Map<_, _>>],
        &column(jobs, |job| job.run_at) as &[Option<DateTime<Utc>>],
        &column(jobs, |job| job.deadline) as &[Option<DateTime<Utc>>],
        &column(jobs, |job| job.trace_parent.as_deref()) as &[Option<&str>],
        &column(jobs, |job| Some(job.member.as_ref()?.position)) as &[Option<i32>],
        &column(jobs, |job| job.member.as_ref()?.custom_id.as_deref()) as &[Option<&str>],
        &lane_nos,
        &column(&terms, |terms| terms.model_version_id),
        &column(&terms, |terms| terms.model_ref) as &[&str],
        &column(&terms, |terms| f64::from_bits(terms.retain_seconds)),
        &column(&terms, |terms| terms.attempt_timeout_seconds),
        &column(&terms, |terms| terms.attempts_max),
        &column(&terms, |terms| terms.interruptions_max),
        &column(&terms, |terms| terms.batch) as &[Option<Uuid>],
        &column(&terms, |terms| terms.webhook_url) as &[Option<&str>],
        &column(&lanes.firsts, |job| job.model.model_id),
        &column(&lanes.firsts, |job| job.priority),
        &column(&lanes.firsts, |job| job.owner.as_str()) as &[&str],
        &lanes.counts,
        &column(&images, |(owner, _)| owner.as_str()) as &[&str],
        &column(&images, |(_, image)| image.sha256.as_bytes().as_slice()) as &[&[u8]],
        &column(&images, |(_, image)| image.upload),
        &column(&images, |(_, image)| image.content_type.as_str()) as &[&str],
        &column(&images, |(_, image)| image.bytes),
        &column(&images, |(_, image)| image.width),
        &column(&images, |(_, image)| image.height),
        &column(&keyed, |(job, _)| job.owner.as_str()) as &[&str],
        &column(&keyed, |(_, idempotency)| idempotency.key.as_str()) as &[&str],
        &column(&keyed, |(_, idempotency)| idempotency
            .fingerprint
            .as_bytes()
            .as_slice()) as &[&[u8]],
        &column(&keyed, |(job, _)| job.id.uuid()),
    )
    .fetch_one(db)
    .await
    .map_err(with_image_purged)?;
    let replayed: HashSet<_> = row.replayed.into_iter().map(JobId::from).collect();
    let queued = jobs.iter().filter(|job| !replayed.contains(&job.id));
    Ok(queued.map(|job| job.enqueued(row.created_at)).collect())
}

fn column<'a, R, T: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Numbers distinct keys of jobs, from 1, like SQL numbers the elements of an array.
struct Numbered<'a, K> {
    /// The key of the job before, which most jobs share: it needs no hash.
    latest: Option<(K, i32)>,
    numbers: HashMap<K, i32>,
    /// The first job of each number.
    firsts: Vec<&'a NewJob>,
    counts: Vec<i32>,
}

impl<K> Default for Numbered<'_, K> {
    fn default() -> Self {
        Self {
            latest: None,
            numbers: HashMap::new(),
            firsts: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl<'a, K: Copy + Eq + Hash> Numbered<'a, K> {
    /// The number of `key`, and how many jobs have had this key, including this one.
    fn enter(&mut self, key: K, job: &'a NewJob) -> (i32, i64) {
        let number = match self.latest {
            Some((latest, number)) if latest == key => number,
            _ => {
                let next = self.firsts.len() as i32 + 1;
                let number = *self.numbers.entry(key).or_insert(next);
                if number == next {
                    self.firsts.push(job);
                    self.counts.push(0);
                }
                self.latest = Some((key, number));
                number
            }
        };
        let count = &mut self.counts[number as usize - 1];
        *count += 1;
        (number, i64::from(*count))
    }
}

/// The statement refuses a purged image by a null in `images.upload`.
fn with_image_purged(error: sqlx::Error) -> QueueError {
    let refused = error.as_database_error();
    let refused = refused.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    match refused {
        Some(refused)
            if refused.table() == Some("images") && refused.column() == Some("upload") =>
        {
            QueueError::ImagePurged
        }
        _ => error.into(),
    }
}
