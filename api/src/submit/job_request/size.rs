use std::io;

use serde_json::{Map, Value};
use wire::JobRequest;

use crate::http::error::ApiError;

/// Checks that the job without its image is small, because Postgres and memory hold it. In memory, each of its values needs
/// much more room than its text.
pub(super) fn check(
    request: &JobRequest,
    bytes_max: usize,
    values_max: usize,
) -> Result<(), ApiError> {
    for (pointer, fields) in [
        ("/params", &request.params),
        ("/metadata", &request.metadata),
    ] {
        if fields.values().map(count_values).sum::<usize>() > values_max {
            let detail = format!("may have up to {values_max} values, counted at every depth");
            return Err(ApiError::invalid_field(pointer, "too_large", &detail));
        }
    }
    let parts = [
        ("/model", request.model.as_ref().map_or(0, String::len)),
        ("/params", json_bytes(&request.params, bytes_max)),
        ("/metadata", json_bytes(&request.metadata, bytes_max)),
    ];
    if parts.iter().map(|(_, bytes)| bytes).sum::<usize>() <= bytes_max {
        return Ok(());
    }
    let largest = parts.into_iter().max_by_key(|(_, bytes)| *bytes);
    let (pointer, _) = largest.expect("there are three");
    let detail = format!("without its image, a job may have up to {bytes_max} bytes");
    Err(ApiError::invalid_field(pointer, "too_large", &detail))
}

/// The value itself and all values within it.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count_values).sum(),
        Value::Object(fields) => fields.values().map(count_values).sum::<usize>(),
        _ => 0,
    }
}

/// Length of these fields as JSON, without writing it; counting stops past `bytes_max`.
fn json_bytes(fields: &Map<String, Value>, bytes_max: usize) -> usize {
    let mut counter = Counter {
        bytes: 0,
        bytes_max,
    };
    // The only possible error is the one by which the counter stops.
    let _ = serde_json::to_writer(&mut counter, fields);
    counter.bytes
}

struct Counter {
    bytes: usize,
    bytes_max: usize,
}

impl io::Write for Counter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.bytes += piece.len();
        if self.bytes > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{JobRequest, check, json_bytes};

    fn fields(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn fields_are_as_long_as_their_json() {
        for value in [
            json!({}),
            json!({"a": [1, 2.5, null, true], "\u{e9}\n\"": {"b": "\u{1}"}}),
        ] {
            let written = value.to_string().len();
            assert_eq!(json_bytes(&fields(value), 1000), written);
        }
    }

    #[test]
    fn counting_ends_where_the_limit_is_passed() {
        let long = fields(json!({"a": vec![1; 1_000_000]}));
        assert!((101..200).contains(&json_bytes(&long, 100)));
    }

    #[test]
    fn a_job_may_be_as_large_as_the_limit() {
        let job = JobRequest {
            model: Some("lite".into()),
            params: fields(json!({"top_k": 3})),
            metadata: fields(json!({"a": "b"})),
            ..JobRequest::default()
        };
        let bytes = r#"lite{"top_k":3}{"a":"b"}"#.len();
        assert!(check(&job, bytes, 1).is_ok());
        assert!(check(&job, bytes - 1, 1).is_err());
    }

    #[test]
    fn a_job_may_have_as_many_values_as_the_limit() {
        let job = |metadata| JobRequest {
            metadata: fields(metadata),
            ..JobRequest::default()
        };
        let nested = json!({"a": [1, {"b": null, "c": [2]}], "d": "text"});
        assert!(check(&job(nested.clone()), 1000, 7).is_ok());
        let refusal = check(&job(nested), 1000, 6).expect_err("7 values");
        assert!(refusal.to_string().starts_with("invalid_params"));
    }
}
