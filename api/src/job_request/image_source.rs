use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jobs::Sha256Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::invalid;
use crate::error::ApiError;

/// Where the image is; exactly one of them.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)] // `Serialize`: for the defaults in the OpenAPI document
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSource {
    /// An image that was uploaded before, by its digest.
    #[schema(value_type = Option<String>, pattern = "^(sha256:)?[0-9a-fA-F]{64}$")]
    pub sha256: Option<Sha256Digest>,
    /// Fetched at submit; off unless the service allows it.
    pub url: Option<String>,
    /// The bytes in base64.
    pub data: Option<String>,
}

/// The one way in which an image was given.
#[derive(Debug)]
pub(crate) enum Source {
    Stored(Sha256Digest),
    Url(String),
    Inline(Bytes),
}

impl ImageSource {
    pub fn pick(self) -> Result<Source, ApiError> {
        match (self.sha256, self.url, self.data) {
            (Some(sha256), None, None) => Ok(Source::Stored(sha256)),
            (None, Some(url), None) => Ok(Source::Url(url)),
            (None, None, Some(data)) => STANDARD
                .decode(data)
                .map(|bytes| Source::Inline(bytes.into()))
                .map_err(|_| {
                    invalid(
                        "/image/data",
                        "invalid",
                        "must be base64 with the standard alphabet",
                    )
                }),
            _ => Err(invalid(
                "/image",
                "invalid",
                "give exactly one of sha256, url and data",
            )),
        }
    }
}
