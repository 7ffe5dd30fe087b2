use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Object, digest, time::micros};

/// A stored image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = ImageBody))]
pub struct Image {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "image"))]
    pub object: Object,
    /// Its digest, by which a job names it.
    #[cfg_attr(feature = "openapi", schema(example = "sha256:4f…"))]
    pub image: String,
    /// From the bytes, not from the request.
    #[cfg_attr(feature = "openapi", schema(example = "image/jpeg"))]
    pub content_type: String,
    pub bytes: i64,
    /// In pixels, before any EXIF rotation.
    pub width: i32,
    pub height: i32,
}

/// The file to upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// The digest of the whole file: 64 hex digits, with or without `sha256:` before them.
    #[serde(deserialize_with = "digest::deserialize")]
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(sha256:)?[0-9a-fA-F]{64}$", example = "sha256:4f…")
    )]
    pub sha256: String,
    #[cfg_attr(feature = "openapi", schema(minimum = 1))]
    pub bytes: i64,
    /// `image/jpeg`
    pub content_type: String,
}

/// How to upload the file, or that it is stored already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = UploadBody))]
pub struct Upload {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "upload"))]
    pub object: Object,
    /// Its digest, by which a job names it.
    #[cfg_attr(feature = "openapi", schema(example = "sha256:4f…"))]
    pub image: String,
    /// The file is stored already: nothing has to be sent.
    pub stored: bool,
    #[serde(flatten)]
    pub put: Option<PresignedPut>,
}

/// The request that uploads the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Put))]
pub struct PresignedPut {
    #[cfg_attr(feature = "openapi", schema(example = "PUT"))]
    pub method: String,
    pub url: String,
    /// Headers to send unchanged.
    pub headers: BTreeMap<String, String>,
    /// The URL is refused after this time.
    #[serde(serialize_with = "micros")]
    pub expires_at: DateTime<Utc>,
}
