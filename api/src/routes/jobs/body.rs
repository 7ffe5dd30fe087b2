//! A job as clients read it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use jobs::{
    Attempt, Job, JobId, JobState, Problem, ProblemCode,
    job::ResolvedModel,
    results,
    rfc3339::{micros, some_micros},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::trace::trace_id;

/// A job: one image, one model version, one prediction.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobBody {
    #[schema(value_type = String, example = "job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")]
    id: JobId,
    #[schema(example = "job")]
    object: &'static str,
    /// Grows with every change; also the `ETag`.
    version: i32,
    status: JobState,
    /// The reason of the status, if the status alone does not say it: `backing_off`, `waiting_for_run_at`, `cancel_requested`, or the
    /// code of the error.
    status_reason: Option<&'static str>,
    task: String,
    #[schema(example = "efficientnet-lite0@default")]
    model: String,
    resolved_model: ResolvedModel,
    input: Input,
    #[schema(value_type = Object)]
    params: Value,
    /// The prediction; its shape depends on the task. Empty until `succeeded`. A mask or a large result is an object of its
    /// own, named by `mask_url`, or by `url` and `bytes`.
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why the job `failed` or `expired`.
    #[schema(value_type = Option<Problem>)]
    error: Option<Value>,
    priority: i16,
    batch_id: Option<String>,
    #[schema(value_type = Object)]
    metadata: Value,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "micros")]
    run_at: DateTime<Utc>,
    #[serde(serialize_with = "some_micros")]
    started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    finished_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    deadline: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    retain_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
    attempts: Attempts,
    /// Milliseconds of each stage of the last attempt; empty until finished.
    timings_ms: Option<BTreeMap<String, f64>>,
    /// The place of the image in its forward batch.
    batch: Option<Batch>,
    /// `miss`: a new job; `hit`: an earlier job that has made this prediction; `joined`: an earlier job that is about to make it.
    #[schema(value_type = String, example = "miss")]
    cache: Cache,
    trace_id: Option<String>,
    urls: JobUrls,
}

#[derive(Debug, Serialize, ToSchema)]
struct Input {
    #[schema(example = "sha256:4f…")]
    image: String,
    content_type: Option<String>,
    bytes: Option<i64>,
    /// In pixels, before any EXIF rotation.
    width: Option<i32>,
    height: Option<i32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Attempts {
    /// Attempts that count against `max`.
    charged: i16,
    max: i16,
    /// Attempts that ended because their worker was lost.
    interruptions: i16,
    /// Only with `?include=attempts` in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Vec<Attempt>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Batch {
    size: i16,
    /// From 0.
    position: i16,
}

#[derive(Debug, Serialize, ToSchema)]
struct JobUrls {
    #[serde(rename = "self")]
    this: String,
    result: String,
    events: String,
    cancel: String,
}

impl JobBody {
    #[must_use]
    pub fn with_cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    pub fn new(job: Job, attempts: Option<Vec<Attempt>>) -> Self {
        let this = format!("/v1/jobs/{}", job.id);
        let reason = status_reason(&job);
        Self {
            id: job.id,
            object: "job",
            version: job.version,
            status: job.state,
            status_reason: reason,
            task: job.task,
            model: job.model_ref,
            resolved_model: job.model,
            input: Input {
                image: job.image.sha256.to_string(),
                content_type: job.image.content_type,
                bytes: job.image.bytes,
                width: job.image.width,
                height: job.image.height,
            },
            params: job.params,
            result: job
                .result
                .map(|result| results::shown(result, &format!("{this}/result"))),
            error: if job.state.is_terminal() {
                job.problem
            } else {
                None
            },
            priority: job.priority,
            batch_id: job.member.as_ref().map(|member| member.batch.to_string()),
            metadata: job.metadata,
            created_at: job.created_at,
            run_at: job.run_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            deadline: job.deadline,
            retain_until: job.retain_until,
            cancel_requested: job.cancel_requested,
            attempts: Attempts {
                charged: job.attempts_charged,
                max: job.attempts_max,
                interruptions: job.interruptions,
                items: attempts,
            },
            timings_ms: job
                .timings
                .and_then(|timings| serde_json::from_value(timings).ok()),
            batch: job
                .forward_batch_size
                .zip(job.forward_batch_position)
                .map(|(size, position)| Batch { size, position }),
            cache: Cache::Miss,
            trace_id: job
                .trace_parent
                .as_deref()
                .and_then(trace_id)
                .map(str::to_owned),
            urls: JobUrls {
                result: format!("{this}/result"),
                events: format!("{this}/events"),
                cancel: format!("{this}/cancel"),
                this,
            },
        }
    }
}

/// Whether an earlier job answered a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cache {
    Miss,
    Hit,
    Joined,
}

impl Cache {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Joined => "joined",
        }
    }
}

/// Why the job is in its state, if its state alone does not say it.
fn status_reason(job: &Job) -> Option<&'static str> {
    match job.state {
        JobState::Scheduled if job.attempts_charged > 0 => Some("backing_off"),
        JobState::Scheduled => Some("waiting_for_run_at"),
        JobState::Running if job.cancel_requested => Some("cancel_requested"),
        JobState::Failed | JobState::Expired => {
            let code = job.problem.as_ref()?.get("code")?.clone();
            serde_json::from_value::<ProblemCode>(code)
                .ok()
                .map(ProblemCode::as_str)
        }
        _ => None,
    }
}

/// The strong `ETag` of a job: the version of its row.
pub(crate) fn etag(job: &Job) -> String {
    format!("\"{}\"", job.version)
}
