use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Job, Object, Problem,
    time::{micros, some_micros},
};

/// Many images that were submitted together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = BatchBody))]
pub struct Batch {
    #[cfg_attr(
        feature = "openapi",
        schema(example = "batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7")
    )]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "batch"))]
    pub object: Object,
    pub status: BatchStatus,
    /// Whether all lines have been uploaded.
    pub upload: BatchUpload,
    /// The lines, counted by their state.
    pub counts: BatchCounts,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Value,
    #[serde(serialize_with = "micros")]
    pub created_at: DateTime<Utc>,
    /// When the last job ended; empty until then.
    #[serde(serialize_with = "some_micros")]
    pub finished_at: Option<DateTime<Utc>>,
    pub urls: BatchUrls,
}

/// The state of a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Lines may come, or jobs wait or run.
    Running,
    /// Every line succeeded.
    Succeeded,
    /// Some lines did not succeed, or were not uploaded.
    PartlyFailed,
    /// No line succeeded.
    Failed,
    /// A cancel was requested, and came before some jobs had ended.
    Canceled,
}

/// Whether more lines may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Upload))]
#[serde(rename_all = "snake_case")]
pub enum BatchUpload {
    Open,
    Complete,
    /// The upload ended early. A repeated upload with the same `Idempotency-Key` resumes it.
    BrokenOff,
}

/// How many lines of a batch are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Counts))]
pub struct BatchCounts {
    /// Lines taken so far.
    pub total: i64,
    pub queued: i64,
    pub running: i64,
    pub scheduled: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub canceled: i64,
    pub expired: i64,
    /// Lines that did not become jobs.
    pub refused: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchUrls {
    #[serde(rename = "self")]
    pub this: String,
    pub results: String,
    pub jobs: String,
    pub cancel: String,
    pub retry_failed: String,
}

/// One line of a batch that has ended: with its `job`, or with the `error` for which there is no job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchResult {
    pub custom_id: Option<String>,
    /// The number of the line, from 1.
    pub line: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<Problem>>,
}

impl BatchStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::PartlyFailed => "partly_failed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether all jobs of the batch have ended.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Running)
    }
}

impl BatchUpload {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::BrokenOff => "broken_off",
        }
    }
}

impl BatchUrls {
    /// The paths of the batch `id`.
    pub fn new(id: impl std::fmt::Display) -> Self {
        let this = format!("/v1/batches/{id}");
        Self {
            results: format!("{this}/results"),
            jobs: format!("/v1/jobs?batch_id={id}"),
            cancel: format!("{this}/cancel"),
            retry_failed: format!("{this}/retry_failed"),
            this,
        }
    }
}
