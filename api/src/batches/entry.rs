use jobs::Problem;
use serde_json::{Map, Value};
use wire::JobRequest;

use crate::{
    http::{error::ApiError, json::from_fields},
    submit::{job_json::SplitJob, spool::Upload},
};

const CUSTOM_ID_BYTES_MAX: usize = 256;

/// One line of a batch, as it arrived.
#[derive(Debug)]
pub(crate) enum BatchEntry {
    /// A line of NDJSON. Its text is not parsed yet; its image has left the text.
    Line(SplitJob),
    /// An image of a multipart form.
    File {
        custom_id: Option<String>,
        request: Box<JobRequest>,
        /// Length of the JSON that `request` was read from.
        request_bytes: usize,
        upload: Upload,
    },
    /// A line that cannot become a job.
    Refused {
        custom_id: Option<String>,
        problem: Box<Problem>,
    },
}

impl BatchEntry {
    /// Bytes that the entry holds in memory or on disk, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Line(SplitJob { text, image, .. }) => {
                let image = image.as_ref().and_then(|image| image.as_ref().ok());
                text.len() + image.map_or(0, |upload| upload.image.bytes as usize)
            }
            Self::File { upload, .. } => upload.image.bytes as usize,
            Self::Refused { .. } => 0,
        }
    }

    /// Bytes of JSON without images. Parsed JSON needs up to a hundred times as much memory.
    pub fn json_bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.text.len(),
            Self::File { request_bytes, .. } => *request_bytes,
            Self::Refused { .. } => 0,
        }
    }
}

/// Parses the text of a line of NDJSON: the `custom_id`, and the fields of a job. The `custom_id` is read even if the job is invalid.
pub(crate) fn parse(line: &[u8]) -> (Option<String>, Result<JobRequest, ApiError>) {
    let fields = serde_json::from_slice::<Map<String, Value>>(line);
    let mut fields = match fields {
        Ok(fields) => fields,
        Err(error) => {
            let detail = format!("the line is not a JSON object: {error}");
            let error = ApiError::new(jobs::ProblemCode::InvalidRequest, detail);
            return (None, Err(error));
        }
    };
    match fields.remove("custom_id") {
        None | Some(Value::Null) => (None, from_fields(fields)),
        Some(Value::String(id)) if is_custom_id(&id) => (Some(id), from_fields(fields)),
        Some(_) => {
            let detail = "must be text of 1 to 256 bytes without NUL";
            (
                None,
                Err(ApiError::invalid_field("/custom_id", "invalid", detail)),
            )
        }
    }
}

pub(super) fn is_custom_id(id: &str) -> bool {
    (1..=CUSTOM_ID_BYTES_MAX).contains(&id.len()) && !id.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_line_is_a_job_with_a_name_of_its_own() {
        let (custom_id, asked) = parse(br#"{"custom_id": "a", "model": "lite", "priority": 2}"#);
        let asked = asked.expect("fits");
        assert_eq!(custom_id.as_deref(), Some("a"));
        assert_eq!((asked.model.as_deref(), asked.priority), (Some("lite"), 2));
    }

    #[test]
    fn a_line_that_is_wrong_keeps_its_name_where_it_can_be_read() {
        let (custom_id, asked) = parse(br#"{"custom_id": "a", "modle": "lite"}"#);
        assert_eq!(custom_id.as_deref(), Some("a"));
        assert!(asked.is_err());
        for bad in [
            "",
            "[]",
            "{",
            "{} {}",
            r#"{"custom_id": 7}"#,
            r#"{"custom_id": ""}"#,
        ] {
            let (custom_id, asked) = parse(bad.as_bytes());
            assert!(custom_id.is_none() && asked.is_err(), "{bad}");
        }
    }
}
