use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::Object;

/// Sums over finished jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageList {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "list"))]
    pub object: Object,
    /// `owner`, `model`, `day`.
    pub group_by: Vec<String>,
    /// Latest day first; 10,000 groups at most.
    pub data: Vec<Usage>,
}

/// What finished jobs used. The fields that the list is not grouped by are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Day on which the jobs ended, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = Date))]
    pub day: Option<NaiveDate>,
    /// Jobs that ended, with any status.
    pub jobs: i64,
    pub succeeded: i64,
    /// Bytes of the images, each counted once a job.
    pub image_bytes: i64,
    /// Seconds of the device: each job's share of its forward pass.
    pub infer_seconds: f64,
    /// Seconds from claim to end of the last attempts; those of one forward batch overlap.
    pub attempt_seconds: f64,
}
