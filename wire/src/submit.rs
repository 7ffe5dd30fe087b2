use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{digest, duration};

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
    /// From -100 to 100; jobs with a higher priority run first.
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

/// Where the image is: exactly one of these fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImageSource {
    /// The digest of a stored image.
    #[serde(
        default,
        deserialize_with = "digest::deserialize_some",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(pattern = "^(sha256:)?[0-9a-fA-F]{64}$"))]
    pub sha256: Option<String>,
    /// Fetched at submit, if the service allows image URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The bytes in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// A receiver of webhooks.
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
