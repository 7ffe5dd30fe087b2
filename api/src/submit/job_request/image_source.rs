use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jobs::Sha256Digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;

/// Where the image is: exactly one of these fields.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)] // `Serialize`: for the defaults in the OpenAPI document
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSource {
    /// The digest of a stored image.
    #[schema(value_type = Option<String>, pattern = "^(sha256:)?[0-9a-fA-F]{64}$")]
    pub sha256: Option<Sha256Digest>,
    /// Fetched at submit, if the service allows image URLs.
    pub url: Option<String>,
    /// The bytes in base64.
    pub data: Option<String>,
}

/// Where an image is.
#[derive(Debug)]
pub(crate) enum ImageLocation {
    Stored(Sha256Digest),
    Url(String),
    Inline(Bytes),
}

impl ImageSource {
    /// The one field that is given.
    ///
    /// # Errors
    /// `invalid_params`: none or several are given, or the base64 is invalid.
    pub fn location(self) -> Result<ImageLocation, ApiError> {
        match (self.sha256, self.url, self.data) {
            (Some(sha256), None, None) => Ok(ImageLocation::Stored(sha256)),
            (None, Some(url), None) => Ok(ImageLocation::Url(url)),
            (None, None, Some(data)) => STANDARD
                .decode(data)
                .map(|bytes| ImageLocation::Inline(bytes.into()))
                .map_err(|_| {
                    ApiError::invalid_field(
                        "/image/data",
                        "invalid",
                        "must be base64 with the standard alphabet",
                    )
                }),
            _ => Err(ApiError::invalid_field(
                "/image",
                "invalid",
                "give exactly one of sha256, url and data",
            )),
        }
    }
}
