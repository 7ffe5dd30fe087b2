use actix_multipart::Multipart;
use actix_web::{HttpMessage, HttpRequest, web::Payload};
use jobs::{ProblemCode, Sha256Digest};
use sha2::{Digest, Sha256};

use super::{
    entry::BatchEntry,
    files::Files,
    lines::{self, Lines},
};
use crate::{
    config::Limits,
    http::{
        body::BodyClock,
        error::ApiError,
        headers::{content_length, has_idempotency_key, refuse_content_encoding},
    },
};

/// Reads the body of a batch in both of its forms, line by line.
pub(crate) struct BatchReader {
    form: Form,
    clock: BodyClock,
}

enum Form {
    Lines {
        lines: Box<Lines>,
        body: Payload,
        bytes: u64,
        ended: bool,
    },
    Files(Box<Files>),
}

impl BatchReader {
    /// Checks the headers. Reads nothing yet.
    pub fn of(request: &HttpRequest, body: Payload, limits: &Limits) -> Result<Self, ApiError> {
        refuse_content_encoding(request)?;
        if content_length(request).is_some_and(|length| length > limits.batch_bytes_max) {
            return Err(lines::too_large(limits));
        }
        let content_type = request.content_type().to_ascii_lowercase();
        // The query is part of the request: a repetition under one Idempotency-Key must have the same query.
        let seed = Sha256::new_with_prefix(format!("{content_type}\n{}\n", request.query_string()));
        let form = match content_type.as_str() {
            "application/x-ndjson" => Form::Lines {
                lines: Box::new(Lines::new(&seed, limits)),
                body,
                bytes: 0,
                ended: false,
            },
            "multipart/form-data" => {
                let parts = Multipart::new(request.headers(), body);
                Form::Files(Box::new(Files::new(
                    parts,
                    &seed,
                    has_idempotency_key(request),
                )))
            }
            _ => {
                let detail = "send a batch as application/x-ndjson or multipart/form-data";
                return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
            }
        };
        let clock = BodyClock::start_batch(limits);
        Ok(Self { form, clock })
    }

    /// The next line; `None` at the end.
    pub async fn next(&mut self, limits: &Limits) -> Result<Option<BatchEntry>, ApiError> {
        let (lines, body, bytes, ended) = match &mut self.form {
            Form::Files(files) => return files.next(&self.clock, limits).await,
            Form::Lines {
                lines,
                body,
                bytes,
                ended,
            } => (lines, body, bytes, ended),
        };
        while !*ended {
            if let Some(entry) = lines.next() {
                return Ok(Some(entry));
            }
            match self.clock.next(body).await? {
                Some(chunk) => {
                    *bytes += chunk.len() as u64;
                    if *bytes > limits.batch_bytes_max {
                        return Err(lines::too_large(limits));
                    }
                    lines.push(&chunk);
                }
                None => *ended = true,
            }
        }
        Ok(lines.next().or_else(|| lines.last()))
    }

    /// The digest of the request as far as it was read.
    pub fn digest(&self) -> Sha256Digest {
        match &self.form {
            Form::Lines { lines, .. } => lines.digest(),
            Form::Files(files) => files.digest(),
        }
    }
}
