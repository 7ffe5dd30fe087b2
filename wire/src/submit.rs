use serde::{Deserialize, Serialize};

use crate::{JobRequest, digest};

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
    /// The bytes in base64. White space, a data URI (`data:image/jpeg;base64,…`), the URL-safe alphabet and missing padding are
    /// fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(content_encoding = "base64"))]
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
