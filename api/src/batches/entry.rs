use jobs::Problem;
use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    job_request::{self, JobRequest, invalid},
    spool::Upload,
};

const CUSTOM_ID_BYTES_MAX: usize = 256;

/// One line of a batch, as it came.
#[derive(Debug)]
pub(crate) enum Entry {
    /// JSON that nobody has looked at.
    Line(Vec<u8>),
    /// A file of a form.
    File {
        custom_id: Option<String>,
        asked: Box<JobRequest>,
        upload: Upload,
    },
    /// Known to be no job already.
    Refused {
        custom_id: Option<String>,
        problem: Box<Problem>,
    },
}

impl Entry {
    /// What it takes of memory or disk, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Line(text) => text.len(),
            Self::File { upload, .. } => upload.image.bytes as usize,
            Self::Refused { .. } => 0,
        }
    }
}

/// A line of JSON: the fields of a job, and the client's own name of it.
pub(super) fn parse(line: &[u8]) -> (Option<String>, Result<JobRequest, ApiError>) {
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
        None | Some(Value::Null) => (None, job_request::from_fields(fields)),
        Some(Value::String(id)) if is_custom_id(&id) => {
            (Some(id), job_request::from_fields(fields))
        }
        Some(_) => {
            let detail = "must be text of 1 to 256 bytes without NUL";
            (None, Err(invalid("/custom_id", "invalid", detail)))
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
