use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jobs::Sha256Digest;
use wire::ImageSource;

use crate::http::error::ApiError;

/// Where an image is.
#[derive(Debug)]
pub(crate) enum ImageLocation {
    Stored(Sha256Digest),
    Url(String),
    Inline(Bytes),
}

/// The one field that is given.
///
/// # Errors
/// `invalid_params`: none or several are given, or the base64 is invalid.
pub(crate) fn image_location(source: ImageSource) -> Result<ImageLocation, ApiError> {
    match (source.sha256, source.url, source.data) {
        (Some(sha256), None, None) => {
            let sha256 = sha256.parse::<Sha256Digest>().map_err(|error| {
                ApiError::invalid_field("/image/sha256", "invalid", &error.to_string())
            })?;
            Ok(ImageLocation::Stored(sha256))
        }
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
