use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Extensible, ImageSource, Object, Problem, TaskResult, WebhookTarget, duration,
    time::{micros, some_micros},
};

/// A job: one image, one model version, one prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = JobBody))]
pub struct Job {
    #[cfg_attr(
        feature = "openapi",
        schema(example = "job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")
    )]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "job"))]
    pub object: Object,
    /// Grows with every change; also the `ETag`.
    pub version: i32,
    pub status: JobStatus,
    /// The reason of the status, if the status alone does not say it: `backing_off`, `waiting_for_run_at`, `cancel_requested`, or the
    /// code of the error.
    pub status_reason: Option<String>,
    pub task: String,
    #[cfg_attr(feature = "openapi", schema(example = "efficientnet-lite0@default"))]
    pub model: String,
    pub resolved_model: ResolvedModel,
    pub input: JobInput,
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub params: Value,
    /// The prediction; its shape depends on the task. Empty until `succeeded`. A mask or a large result is an object of its
    /// own, named by `mask_url`, or by `url` and `bytes`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub result: Option<Value>,
    /// Why the job `failed` or `expired`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Problem>))]
    pub error: Option<Value>,
    pub priority: i16,
    pub batch_id: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Value,
    #[serde(serialize_with = "micros")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "micros")]
    pub run_at: DateTime<Utc>,
    #[serde(serialize_with = "some_micros")]
    pub started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    pub finished_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    pub deadline: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    pub retain_until: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    pub attempts: JobAttempts,
    /// Milliseconds of each stage of the last attempt; empty until finished.
    pub timings_ms: Option<BTreeMap<String, f64>>,
    /// The place of the image in its forward batch.
    pub batch: Option<ForwardBatch>,
    /// `miss`: a new job; `hit`: an earlier job that has made this prediction; `joined`: an earlier job that is about to make it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "miss"))]
    pub cache: CacheOutcome,
    pub trace_id: Option<String>,
    pub urls: JobUrls,
}

/// A job as JSON. Every field is optional, except `image` in a JSON body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct JobRequest {
    /// `name`, `name@alias`, `name:version` or `name@sha256:…`; the default model by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// The model's own parameters, see `GET /v1/models/{name}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub params: Map<String, Value>,
    /// From -100 to 100; jobs with a higher priority run first. Up to the `priority_max` of the key, 0 by default.
    #[serde(skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "openapi", schema(minimum = -100, maximum = 100))]
    pub priority: i16,
    /// Your metadata: up to 50 keys. `GET /v1/jobs?metadata.KEY=…` finds jobs by it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Map<String, Value>,
    /// Not before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// The job expires at this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    /// From 1 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 20))]
    pub max_attempts: Option<i16>,
    /// How long to keep the finished job: `P7D`, `PT12H`.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "P7D"))]
    pub retain_for: Option<TimeDelta>,
    /// A receiver for the end of this job, in addition to your endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,
}

/// The status of a job; `docs/states.md` has the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = JobState))]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Due later: `run_at` is in the future, or a failed attempt backs off.
    Scheduled,
    /// Due, waiting for a worker.
    Queued,
    /// Leased to a worker.
    Running,
    Succeeded,
    Failed,
    Canceled,
    /// The deadline passed before an attempt began.
    Expired,
}

/// The immutable model version that a job was resolved to at submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResolvedModel {
    pub name: String,
    pub version: i32,
    #[cfg_attr(feature = "openapi", schema(example = "sha256:9c…"))]
    pub digest: String,
}

/// The image of a job. The fields from `content_type` to `height` are empty once the image is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Input))]
pub struct JobInput {
    #[cfg_attr(feature = "openapi", schema(example = "sha256:4f…"))]
    pub image: String,
    pub content_type: Option<String>,
    pub bytes: Option<i64>,
    /// In pixels, before any EXIF rotation.
    pub width: Option<i32>,
    pub height: Option<i32>,
    /// What is wrong with the file, although all its pixels are there. Filled when the job has succeeded.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = Vec<InputWarning>, required = true)
    )]
    pub warnings: Vec<Extensible<InputWarning>>,
}

/// What is wrong with the file of an image whose pixels are all there. The job succeeds nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum InputWarning {
    /// A header has a wrong value that does not change the pixels.
    BadHeader,
    /// A checksum that the pixels do not depend on is wrong.
    BadChecksum,
    /// EXIF data or a color profile cannot be read, and was ignored.
    BadMetadata,
    /// There are bytes where the format allows none.
    StrayBytes,
    /// The mark at the end of the file is missing.
    MissingEnd,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Attempts))]
pub struct JobAttempts {
    /// Attempts that count against `max`.
    pub charged: i16,
    pub max: i16,
    /// Attempts that ended because their worker was lost.
    pub interruptions: i16,
    /// Only with `?include=attempts` in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Attempt>>,
}

/// One attempt of a worker at a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// From 1, in the order of their starts.
    pub number: i16,
    pub worker: Option<String>,
    pub device: Option<String>,
    #[serde(serialize_with = "micros")]
    pub started_at: DateTime<Utc>,
    /// Empty while the attempt runs.
    #[serde(serialize_with = "some_micros")]
    pub ended_at: Option<DateTime<Utc>>,
    /// `retried`, `postponed`, `released`, `lost`, `timed_out`, `failed`, `canceled` or `succeeded`.
    pub outcome: Option<String>,
    /// Whether the attempt counts against `attempts.max`.
    pub charged: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Problem>))]
    pub error: Option<Value>,
}

/// The images that shared the forward pass of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Batch))]
pub struct ForwardBatch {
    pub size: i16,
    /// From 0.
    pub position: i16,
}

/// How a submit came to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheOutcome {
    Miss,
    Hit,
    Joined,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobUrls {
    #[serde(rename = "self")]
    pub this: String,
    pub result: String,
    pub events: String,
    pub cancel: String,
}

impl JobRequest {
    /// Fields that the query of a raw upload has as text.
    pub const TEXT_IN_QUERY: &[&str] = &["model", "run_at", "deadline", "retain_for"];
    /// Fields that the query of a raw upload has as numbers.
    pub const NUMBERS_IN_QUERY: &[&str] = &["priority", "max_attempts"];
}

impl Job {
    /// The prediction by task; `None` if the job has none.
    pub fn task_result(&self) -> Option<TaskResult> {
        let result = self.result.as_ref()?;
        // `TaskResult::Other` takes any JSON.
        TaskResult::deserialize(result).ok()
    }

    /// The precision of the prediction; `None` if it is the model's default.
    pub fn precision(&self) -> Option<&str> {
        self.result.as_ref()?.get("precision")?.as_str()
    }

    /// The code of what the worker found wrong with the model, although it gave this prediction; `None` in most jobs.
    pub fn model_warning(&self) -> Option<&str> {
        self.result.as_ref()?.get("model_warning")?.as_str()
    }

    /// The error as a problem; `None` if the job has no error, or if the error is no problem document.
    pub fn problem(&self) -> Option<Problem> {
        Problem::deserialize(self.error.as_ref()?).ok()
    }
}

impl Attempt {
    /// The error as a problem; `None` if the attempt has no error, or if the error is no problem document.
    pub fn problem(&self) -> Option<Problem> {
        Problem::deserialize(self.error.as_ref()?).ok()
    }
}

impl JobUrls {
    /// The paths of the job `id`.
    pub fn new(id: impl fmt::Display) -> Self {
        let this = format!("/v1/jobs/{id}");
        Self {
            result: format!("{this}/result"),
            events: format!("{this}/events"),
            cancel: format!("{this}/cancel"),
            this,
        }
    }
}

impl JobStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }

    /// Whether the job has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Expired
        )
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl InputWarning {
    pub const ALL: [Self; 5] = [
        Self::BadHeader,
        Self::BadChecksum,
        Self::BadMetadata,
        Self::StrayBytes,
        Self::MissingEnd,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadHeader => "bad_header",
            Self::BadChecksum => "bad_checksum",
            Self::BadMetadata => "bad_metadata",
            Self::StrayBytes => "stray_bytes",
            Self::MissingEnd => "missing_end",
        }
    }
}

impl Extensible<InputWarning> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(warning) => warning.as_str(),
            Self::Unknown(code) => code,
        }
    }
}

impl From<String> for Extensible<InputWarning> {
    fn from(code: String) -> Self {
        let known = InputWarning::ALL.into_iter();
        let mut known = known.filter(|warning| warning.as_str() == code);
        known.next().map_or(Self::Unknown(code), Self::Known)
    }
}

impl CacheOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Hit => "hit",
            Self::Joined => "joined",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(priority: &i16) -> bool {
    *priority == 0
}

#[cfg(test)]
mod tests {
    use super::InputWarning;
    use crate::Extensible;

    #[test]
    fn every_warning_has_the_code_that_serde_gives_it() {
        for warning in InputWarning::ALL {
            let code = serde_json::to_value(warning).expect("JSON");
            assert_eq!(code, warning.as_str());
            let read: Extensible<InputWarning> = warning.as_str().to_owned().into();
            assert_eq!(read, Extensible::Known(warning));
        }
    }

    #[test]
    fn a_warning_that_is_newer_keeps_its_code() {
        let newer: Extensible<InputWarning> = "bad_weather".to_owned().into();
        assert_eq!((newer.known(), newer.as_str()), (None, "bad_weather"));
    }
}
