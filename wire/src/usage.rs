use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::Object;

/// The usage of jobs, in groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageList {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "list"))]
    pub object: Object,
    /// The fields of the groups.
    pub group_by: Vec<String>,
    /// Latest day first; at most 10,000 groups.
    pub data: Vec<Usage>,
}

/// Usage of finished jobs. Fields that the query does not group by are left out.
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
    /// Jobs that ended, in any state.
    pub jobs: i64,
    pub succeeded: i64,
    /// Bytes of the jobs' images; an image counts once for each job.
    pub image_bytes: i64,
    /// Device time in seconds: each job's share of its forward pass.
    pub infer_seconds: f64,
    /// Seconds from claim to end of the jobs' last attempts. Attempts of one forward batch overlap.
    pub attempt_seconds: f64,
}
