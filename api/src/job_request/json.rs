use jobs::ProblemCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{JobRequest, invalid};
use crate::error::ApiError;

/// Reads JSON; a fault says where it is.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json);
    let request = request.map_err(|error| json_fault(&error))?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(request)
}

/// What is wrong with a JSON body, and where.
fn json_fault(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    match error.inner().classify() {
        serde_json::error::Category::Data => invalid(
            &pointer(error.path()),
            "invalid",
            &error.inner().to_string(),
        ),
        _ => not_json(error.inner()),
    }
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

/// Reads the fields of a JSON object; a fault says where it is.
pub(crate) fn from_fields(fields: Map<String, Value>) -> Result<JobRequest, ApiError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        invalid(
            &pointer(error.path()),
            "invalid",
            &error.inner().to_string(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{JobRequest, from_json};

    #[test]
    fn a_fault_in_the_json_says_where_it_is() {
        let code = |body: &str| {
            from_json::<JobRequest>(body.as_bytes())
                .expect_err("refused")
                .to_string()
        };
        assert!(code("{").starts_with("invalid_request"));
        assert!(code("{} {}").starts_with("invalid_request"));
        assert!(code(r#"{"modle": "lite"}"#).starts_with("invalid_params"));
        assert!(code(r#"{"priority": "high"}"#).starts_with("invalid_params"));
        let deep = format!(r#"{{"metadata": {{"a": {}}}}}"#, "[".repeat(1000));
        assert!(code(&deep).starts_with("invalid_request"));
    }
}
