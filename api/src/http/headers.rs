//! What the headers of a request say.

use actix_web::{HttpRequest, http::header};
use jobs::ProblemCode;

use super::error::ApiError;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

fn text<'a>(request: &'a HttpRequest, name: &header::HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// The announced length of the body, in bytes.
pub(crate) fn content_length(request: &HttpRequest) -> Option<u64> {
    text(request, &header::CONTENT_LENGTH)?.parse().ok()
}

/// Refuses a compressed body with `unsupported_media_type`.
pub(crate) fn refuse_content_encoding(request: &HttpRequest) -> Result<(), ApiError> {
    let coding = text(request, &header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(ApiError::new(
            ProblemCode::UnsupportedMediaType,
            "send the body without Content-Encoding: images are compressed already",
        ));
    }
    Ok(())
}

/// Whether `If-None-Match` names this `ETag`.
pub(crate) fn has_version(request: &HttpRequest, etag: &str) -> bool {
    text(request, &header::IF_NONE_MATCH).is_some_and(|known| {
        let mut known = known.split(',').map(str::trim);
        known.any(|known| known == "*" || known.trim_start_matches("W/") == etag)
    })
}

/// Whether the request carries an `Idempotency-Key`. Such a request may be a repetition: the first answer counts.
pub(crate) fn has_idempotency_key(request: &HttpRequest) -> bool {
    request.headers().contains_key(IDEMPOTENCY_KEY)
}

/// The `Idempotency-Key`: bare, or quoted as in the IETF draft.
///
/// # Errors
/// `invalid_request`: the key is empty, longer than 255 characters, or not ASCII.
pub(crate) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Some(header) = request.headers().get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = header.to_str().unwrap_or_default().trim().trim_matches('"');
    if (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = "Idempotency-Key must be 1 to 255 plain characters";
    Err(ApiError::new(ProblemCode::InvalidRequest, detail))
}

/// The refusal of a request whose `Idempotency-Key` belongs to another request.
pub(crate) fn key_reused() -> ApiError {
    ApiError::new(
        ProblemCode::IdempotencyKeyReused,
        "this Idempotency-Key was used for another request: use a new one for each",
    )
}
