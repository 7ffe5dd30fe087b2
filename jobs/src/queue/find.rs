use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::QueueError;
use crate::{
    Attempt, Job, JobId, JobState, LeaseNo,
    job::{BatchMember, JobImage, ResolvedModel},
};

/// One row of `ops.jobs`.
pub(crate) struct JobRow {
    pub job_id: Uuid,
    pub version: i32,
    pub status: String,
    pub owner: String,
    pub task: String,
    pub model: String,
    pub model_name: String,
    pub model_version: i32,
    pub model_digest: String,
    pub image: String,
    pub content_type: Option<String>,
    pub bytes: Option<i64>,
    pub width: Option<i32>,
    pub height: Option<i32>,
    pub params: Value,
    pub metadata: Value,
    pub priority: i16,
    pub created_at: DateTime<Utc>,
    pub run_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub deadline: Option<DateTime<Utc>>,
    pub retain_until: Option<DateTime<Utc>>,
    pub cancel_requested: bool,
    pub lease_no: i32,
    pub attempts_started: i16,
    pub attempts_charged: i16,
    pub attempts_max: i16,
    pub interruptions: i16,
    pub interruptions_max: i16,
    pub worker: Option<String>,
    pub device: Option<String>,
    pub result: Option<Value>,
    pub problem: Option<Value>,
    pub timings: Option<Value>,
    pub batch_size: Option<i16>,
    pub batch_position: Option<i16>,
    pub trace_parent: Option<String>,
    pub batch_uuid: Option<Uuid>,
    pub batch_line: Option<i32>,
    pub custom_id: Option<String>,
    pub webhook_url: Option<String>,
    pub purged_at: Option<DateTime<Utc>>,
}

/// A job of `owner`, live or finished; `None` for a job of another owner.
///
/// # Errors
/// Postgres is away.
pub async fn find(db: &PgPool, job: JobId, owner: &str) -> Result<Option<Job>, QueueError> {
    Ok(find_on(db, &[job.uuid()], &[owner.to_owned()]).await?.pop())
}

/// Those of `jobs` that belong to `owner`, in any order.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(db: &PgPool, jobs: &[JobId], owner: &str) -> Result<Vec<Job>, QueueError> {
    let ids: Vec<_> = jobs.iter().map(|job| job.uuid()).collect();
    find_on(db, &ids, &vec![owner.to_owned(); ids.len()]).await
}

/// Finds jobs of many owners, in any order. `owners` has the owner of each job.
pub(super) async fn find_on(
    db: impl PgExecutor<'_>,
    jobs: &[Uuid],
    owners: &[String],
) -> Result<Vec<Job>, QueueError> {
    let rows = sqlx::query_file_as!(JobRow, "src/queue/find.sql", jobs, owners);
    let jobs = rows.fetch_all(db).await?.into_iter().map(Job::try_from);
    Ok(jobs.collect::<Result<_, _>>()?)
}

/// Every attempt of a job that was read before, first attempt first. If the first attempt succeeded, its data is in the job,
/// and no statement runs: that is the common case, and the statement costs more than the one for the job.
///
/// # Errors
/// Postgres is away.
pub async fn attempts_of(db: &PgPool, job: &Job) -> Result<Vec<Attempt>, QueueError> {
    match job.started_at {
        Some(started_at) if job.state == JobState::Succeeded && job.attempts_started == 1 => {
            Ok(vec![Attempt {
                number: 1,
                worker: job.worker.clone(),
                device: job.device.clone(),
                started_at,
                ended_at: job.finished_at,
                outcome: Some(job.state.to_string()),
                charged: true,
                error: None,
            }])
        }
        _ => attempts(db, job.id).await,
    }
}

/// Every attempt of a job, first attempt first.
///
/// # Errors
/// Postgres is away.
pub async fn attempts(db: &PgPool, job: JobId) -> Result<Vec<Attempt>, QueueError> {
    let attempts = sqlx::query_as!(
        Attempt,
        r#"select number as "number!", worker, device, started_at as "started_at!", ended_at, outcome, charged as "charged!", problem as error
           from ops.attempts where job_id = $1 order by number"#,
        job.uuid()
    );
    Ok(attempts.fetch_all(db).await?)
}

impl TryFrom<JobRow> for Job {
    type Error = sqlx::Error;

    fn try_from(row: JobRow) -> Result<Self, sqlx::Error> {
        let decode = |error: crate::digest::NotADigest| sqlx::Error::Decode(Box::new(error));
        let state = serde_json::from_value::<JobState>(Value::String(row.status))
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self {
            id: row.job_id.into(),
            version: row.version,
            state,
            owner: row.owner,
            task: row.task,
            model_ref: row.model,
            model: ResolvedModel {
                name: row.model_name,
                version: row.model_version,
                digest: row.model_digest.parse().map_err(decode)?,
            },
            image: JobImage {
                sha256: row.image.parse().map_err(decode)?,
                content_type: row.content_type,
                bytes: row.bytes,
                width: row.width,
                height: row.height,
            },
            params: row.params,
            metadata: row.metadata,
            priority: row.priority,
            created_at: row.created_at,
            run_at: row.run_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            deadline: row.deadline,
            retain_until: row.retain_until,
            cancel_requested: row.cancel_requested,
            lease_no: LeaseNo(row.lease_no),
            attempts_started: row.attempts_started,
            attempts_charged: row.attempts_charged,
            attempts_max: row.attempts_max,
            interruptions: row.interruptions,
            interruptions_max: row.interruptions_max,
            worker: row.worker,
            device: row.device,
            result: row.result,
            problem: row.problem,
            timings: row.timings,
            forward_batch_size: row.batch_size,
            forward_batch_position: row.batch_position,
            trace_parent: row.trace_parent,
            member: row.batch_uuid.map(|batch| BatchMember {
                batch: batch.into(),
                position: row.batch_line.unwrap_or_default(),
                custom_id: row.custom_id,
            }),
            webhook_url: row.webhook_url,
            purged_at: row.purged_at,
        })
    }
}
