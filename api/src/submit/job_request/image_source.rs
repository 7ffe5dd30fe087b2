use jobs::Sha256Digest;
use wire::ImageSource;

use crate::{
    config::Limits,
    http::error::ApiError,
    submit::{job_json::read_base64, spool::Upload},
};

/// Where an image is.
#[derive(Debug)]
pub(crate) enum ImageLocation {
    Stored(Sha256Digest),
    Url(String),
    Inline(Upload),
}

/// The one field that is given. `inline` is the image that [`JobJson`] took out of `data`.
///
/// # Errors
/// `invalid_params`: none or several are given, or the base64 is invalid. The base64 is no image that a worker could take.
///
/// [`JobJson`]: crate::submit::job_json::JobJson
pub(crate) fn image_location(
    source: ImageSource,
    inline: Option<Result<Upload, ApiError>>,
    limits: &Limits,
) -> Result<ImageLocation, ApiError> {
    match (source.sha256, source.url, source.data) {
        (Some(sha256), None, None) => {
            let sha256 = sha256.parse::<Sha256Digest>().map_err(|error| {
                ApiError::invalid_field("/image/sha256", "invalid", &error.to_string())
            })?;
            Ok(ImageLocation::Stored(sha256))
        }
        (None, Some(url), None) => Ok(ImageLocation::Url(url)),
        (None, None, Some(data)) => {
            let upload = inline.unwrap_or_else(|| read_base64(&data, limits));
            Ok(ImageLocation::Inline(upload?))
        }
        _ => Err(ApiError::invalid_field(
            "/image",
            "invalid",
            "give exactly one of sha256, url and data",
        )),
    }
}
