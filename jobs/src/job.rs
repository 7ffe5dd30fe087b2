//! A job as it is seen outside the queue: one row of `ops.jobs`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;
use wire::Extensible;

use crate::{BatchId, InputWarning, JobId, LeaseNo, Problem, ProblemCode, Sha256Digest};

/// Where a job is in `docs/states.md`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    sqlx::Type,
    derive_more::Display,
)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "job_state", rename_all = "snake_case")]
pub enum JobState {
    /// Due later: `run_at` is in the future, or a failed attempt backs off.
    #[display("scheduled")]
    Scheduled,
    /// Due, waiting for a worker.
    #[display("queued")]
    Queued,
    /// Leased to a worker.
    #[display("running")]
    Running,
    #[display("succeeded")]
    Succeeded,
    #[display("failed")]
    Failed,
    #[display("canceled")]
    Canceled,
    /// Its deadline passed before an attempt began.
    #[display("expired")]
    Expired,
}

impl JobState {
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Expired
        )
    }
}

/// One job, with all that REST and SQL show of it.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    /// Grows with every change: the `ETag`.
    pub version: i32,
    pub state: JobState,
    pub owner: String,
    pub task: String,
    /// The client's reference with its alias spelled out: `efficientnet-lite0@default`.
    pub model_ref: String,
    pub model: ResolvedModel,
    pub image: JobImage,
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
    pub lease_no: LeaseNo,
    pub attempts_started: i16,
    pub attempts_charged: i16,
    pub attempts_max: i16,
    pub interruptions: i16,
    pub interruptions_max: i16,
    pub worker: Option<String>,
    pub device: Option<String>,
    pub result: Option<Value>,
    pub problem: Option<Value>,
    /// Stage to milliseconds, of the last attempt.
    pub timings: Option<Value>,
    pub forward_batch_size: Option<i16>,
    pub forward_batch_position: Option<i16>,
    pub trace_parent: Option<String>,
    pub member: Option<BatchMember>,
    pub webhook_url: Option<String>,
    pub purged_at: Option<DateTime<Utc>>,
}

/// One row of `ops.jobs`, as [`query_jobs`] reads it.
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
    pub input_warnings: Option<Vec<String>>,
    pub purged_at: Option<DateTime<Utc>>,
}

/// `query_jobs!("from ops.jobs where …", arguments…)`: a query for [`JobRow`]s. The text begins with `from`, and its tables offer
/// the columns of `ops.jobs`. This is the only list of the columns that are read.
macro_rules! query_jobs {
    ($from:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::job::JobRow,
            r#"select job_id as "job_id!", version as "version!", status as "status!", owner as "owner!", task as "task!", model as "model!",
       model_name as "model_name!", model_version as "model_version!", model_digest as "model_digest!",
       image as "image!", content_type, bytes, width, height, params as "params!", metadata as "metadata!", priority as "priority!",
       created_at as "created_at!", run_at as "run_at!", started_at, finished_at, deadline, retain_until,
       cancel_requested as "cancel_requested!", lease_no as "lease_no!", attempts_started as "attempts_started!",
       attempts_charged as "attempts_charged!", attempts_max as "attempts_max!", interruptions as "interruptions!",
       interruptions_max as "interruptions_max!", worker, device, result, problem, timings, batch_size, batch_position,
       trace_parent, batch_uuid, batch_line, custom_id, webhook_url, input_warnings, purged_at
"# + $from
            $(, $argument)*
        )
    };
}
pub(crate) use query_jobs;

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
                warnings: row
                    .input_warnings
                    .into_iter()
                    .flatten()
                    .map(Extensible::from)
                    .collect(),
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

/// A job's place in the batch that it was submitted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMember {
    pub batch: BatchId,
    /// Number of its line, from 1.
    pub position: i32,
    /// The client's own name of the job within the batch.
    pub custom_id: Option<String>,
}

/// The immutable model version that a job was resolved to at submit.
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    pub name: String,
    pub version: i32,
    pub digest: Sha256Digest,
}

/// A job's image. The digest and the warnings are left once the image's row is pruned.
#[derive(Debug, Clone)]
pub struct JobImage {
    pub sha256: Sha256Digest,
    pub content_type: Option<String>,
    pub bytes: Option<i64>,
    pub width: Option<i32>,
    pub height: Option<i32>,
    /// What is wrong with the file, although all its pixels are there. Empty until the job ends, and once it is purged.
    pub warnings: Vec<Extensible<InputWarning>>,
}

/// One attempt of a worker at a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// From 1, in the order of their starts.
    pub number: i16,
    pub worker: Option<String>,
    pub device: Option<String>,
    pub started_at: DateTime<Utc>,
    /// Empty while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// `retried`, `postponed`, `released`, `lost`, `timed_out`, `failed`, `canceled` or `succeeded`.
    pub outcome: Option<String>,
    /// Whether it counts against `attempts.max`.
    pub charged: bool,
    pub error: Option<Value>,
}

/// Why a stage of an attempt failed: a code and a sentence for clients, and a cause for the log only.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct StageError {
    pub code: ProblemCode,
    pub detail: String,
    pub source: Option<anyhow::Error>,
}

impl StageError {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            source: None,
        }
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// The problem that is stored with the job.
    pub fn problem(&self) -> Problem {
        Problem::new(self.code, self.detail.clone())
    }
}
