use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{digest, duration};

/// The body of `POST /v1/jobs`. Only the image is required, and only in the JSON form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct JobRequest {
    /// `name`, `name@alias`, `name:version` or `name@sha256:…`; the default model if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
    /// The model's own parameters, see `GET /v1/models/{name}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub params: Map<String, Value>,
    /// From -100 to 100; higher goes first.
    #[serde(skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "openapi", schema(minimum = -100, maximum = 100))]
    pub priority: i16,
    /// Yours: up to 50 keys; `GET /v1/jobs?metadata.KEY=…` finds the jobs again.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub metadata: Map<String, Value>,
    /// The job is not started before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// The result is of no use after this time.
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
    /// Receives the events of this job, in addition to your endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTarget>,
}

/// Where the image is; exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// An image that was uploaded before, by its digest.
    #[serde(
        default,
        deserialize_with = "digest::deserialize_some",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(sha256:)?[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Fetched at submit; off unless the service allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// The webhook of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = WebhookRequest))]
#[serde(deny_unknown_fields)]
pub struct WebhookTarget {
    /// `https://…`, at a public address; messages are signed with the secret of `GET /v1/webhook_secret`.
    pub url: String,
}

/// One line of `POST /v1/batches`: a job, and your name of it.
///
/// Only for writing: serde cannot refuse unknown fields of a flattened type.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchLine {
    /// Up to 256 bytes; the results name it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
    #[serde(flatten)]
    pub job: JobRequest,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(priority: &i16) -> bool {
    *priority == 0
}
