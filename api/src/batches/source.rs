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
        body_budget::BodyShare,
        error::ApiError,
        headers::{content_length, has_idempotency_key, refuse_content_encoding},
        multipart::{self, Multipart},
    },
};

/// Reads the body of a batch in both of its forms, line by line.
pub(crate) struct BatchReader<'a> {
    limits: &'a Limits,
    form: Form<'a>,
    clock: BodyClock,
}

enum Form<'a> {
    Lines {
        lines: Box<Lines<'a>>,
        body: Payload,
        bytes: u64,
        ended: bool,
    },
    Files(Box<Files<'a>>),
}

impl<'a> BatchReader<'a> {
    /// Checks the headers. Reads nothing yet.
    pub fn of(
        request: &HttpRequest,
        body: Payload,
        share: BodyShare,
        limits: &'a Limits,
    ) -> Result<Self, ApiError> {
        refuse_content_encoding(request)?;
        if content_length(request).is_some_and(|length| length > limits.batch_bytes_max) {
            return Err(lines::too_large(limits));
        }
        let content_type = if multipart::is_form(request) {
            multipart::FORM_DATA.to_owned()
        } else {
            request.content_type().to_ascii_lowercase()
        };
        // The query is part of the request: a repetition under one Idempotency-Key must have the same query.
        let seed = Sha256::new_with_prefix(format!("{content_type}\n{}\n", request.query_string()));
        let form = match content_type.as_str() {
            "application/x-ndjson" => Form::Lines {
                lines: Box::new(Lines::new(&seed, limits)),
                body,
                bytes: 0,
                ended: false,
            },
            multipart::FORM_DATA => {
                let parts = Multipart::new(request, body)?;
                Form::Files(Box::new(Files::new(
                    parts,
                    &seed,
                    has_idempotency_key(request),
                    limits,
                )))
            }
            _ => {
                let detail = "send a batch as application/x-ndjson or multipart/form-data";
                return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
            }
        };
        Ok(Self {
            limits,
            form,
            clock: BodyClock::start_batch(limits).charging(share),
        })
    }

    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<BatchEntry>, ApiError> {
        let (lines, body, bytes, ended) = match &mut self.form {
            Form::Files(files) => return files.next(&self.clock).await,
            Form::Lines {
                lines,
                body,
                bytes,
                ended,
            } => (lines, body, bytes, ended),
        };
        while !*ended {
            if let Some(entry) = lines.next()? {
                return Ok(Some(entry));
            }
            match self.clock.next(body).await? {
                Some(chunk) => {
                    *bytes += chunk.len() as u64;
                    if *bytes > self.limits.batch_bytes_max {
                        return Err(lines::too_large(self.limits));
                    }
                    lines.push(&chunk);
                }
                None => *ended = true,
            }
        }
        match lines.next()? {
            Some(entry) => Ok(Some(entry)),
            None => lines.last(),
        }
    }

    /// Gives back the share of all lines that were returned. Call it once these are gone.
    pub fn release(&self) {
        let held = match &self.form {
            Form::Lines { lines, .. } => lines.held_bytes(),
            Form::Files(files) => files.held_bytes(),
        };
        self.clock.keep_share(held as u64);
    }

    /// Whether other requests wait for bytes that this one holds.
    pub fn others_wait(&self) -> bool {
        self.clock.others_wait()
    }

    /// The digest of the request as far as it was read.
    pub fn digest(&self) -> Sha256Digest {
        match &self.form {
            Form::Lines { lines, .. } => lines.digest(),
            Form::Files(files) => files.digest(),
        }
    }
}
