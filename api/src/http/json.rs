//! JSON bodies. An error names the field by its JSON pointer.

use actix_web::web::Payload;
use jobs::ProblemCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{body::BodyClock, error::ApiError};
use crate::config::Limits;

/// Reads a JSON body of at most `job_bytes_max` bytes.
///
/// # Errors
/// `invalid_request`: the body is too long, too slow, or not JSON. `invalid_params`: a field does not fit.
pub(crate) async fn read_json<T: DeserializeOwned>(
    mut body: Payload,
    limits: &Limits,
) -> Result<T, ApiError> {
    let bytes_max = limits.job_bytes_max;
    let too_long = || {
        let detail = format!("the body may have up to {bytes_max} bytes");
        ApiError::new(ProblemCode::InvalidRequest, detail)
    };
    let clock = BodyClock::start(limits);
    from_json(&clock.read_all(&mut body, bytes_max, too_long).await?)
}

/// Parses JSON.
///
/// # Errors
/// `invalid_request`: not JSON. `invalid_params`: a field does not fit.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json);
    let request = request.map_err(|error| match error.inner().classify() {
        serde_json::error::Category::Data => invalid_field(&error),
        _ => not_json(error.inner()),
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(request)
}

/// Reads the fields of a JSON object.
///
/// # Errors
/// `invalid_params`: a field does not fit.
pub(crate) fn from_fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| invalid_field(&error))
}

fn invalid_field(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let detail = error.inner().to_string();
    ApiError::invalid_field(&pointer(error.path()), "invalid", &detail)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        ProblemCode::InvalidRequest,
        format!("the body is not JSON: {error}"),
    )
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment.to_string() {
            name if name == "?" => {}
            name => {
                pointer.push('/');
                pointer.push_str(name.trim_start_matches('[').trim_end_matches(']'));
            }
        }
    }
    pointer
}
