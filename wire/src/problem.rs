use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Extensible;

/// The codes that a client may branch on. Each has a page in `docs/problems.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    InvalidRequest,
    InvalidParams,
    Unauthorized,
    Forbidden,
    NotFound,
    UnknownModel,
    UnsupportedMediaType,
    ImageTooLarge,
    ImageTooManyPixels,
    ImageUndecodable,
    ImageUrlBlocked,
    ImageUrlFailed,
    IdempotencyKeyReused,
    IdempotencyInFlight,
    JobNotFinished,
    JobFailed,
    JobTerminal,
    NotRetryable,
    DataPurged,
    PreconditionFailed,
    RateLimited,
    QuotaExceeded,
    QueueFull,
    ServiceUnavailable,
    StorageRefused,
    DeadlineExceeded,
    AttemptTimedOut,
    OutOfMemory,
    ModelError,
    WorkerLost,
    TooManyInterruptions,
    Internal,
}

use ProblemCode as C;

impl ProblemCode {
    pub const ALL: [Self; 32] = [
        C::InvalidRequest,
        C::InvalidParams,
        C::Unauthorized,
        C::Forbidden,
        C::NotFound,
        C::UnknownModel,
        C::UnsupportedMediaType,
        C::ImageTooLarge,
        C::ImageTooManyPixels,
        C::ImageUndecodable,
        C::ImageUrlBlocked,
        C::ImageUrlFailed,
        C::IdempotencyKeyReused,
        C::IdempotencyInFlight,
        C::JobNotFinished,
        C::JobFailed,
        C::JobTerminal,
        C::NotRetryable,
        C::DataPurged,
        C::PreconditionFailed,
        C::RateLimited,
        C::QuotaExceeded,
        C::QueueFull,
        C::ServiceUnavailable,
        C::StorageRefused,
        C::DeadlineExceeded,
        C::AttemptTimedOut,
        C::OutOfMemory,
        C::ModelError,
        C::WorkerLost,
        C::TooManyInterruptions,
        C::Internal,
    ];

    /// Code, HTTP status, title, and whether the same request may succeed later.
    #[allow(clippy::too_many_lines, reason = "one arm for each code")]
    const fn facts(self) -> (&'static str, u16, &'static str, bool) {
        match self {
            C::InvalidRequest => (
                "invalid_request",
                400,
                "The request cannot be understood",
                false,
            ),
            C::InvalidParams => (
                "invalid_params",
                422,
                "A parameter is not acceptable",
                false,
            ),
            C::Unauthorized => ("unauthorized", 401, "A valid API key is needed", false),
            C::Forbidden => ("forbidden", 403, "The API key does not allow this", false),
            C::NotFound => ("not_found", 404, "There is no such thing here", false),
            C::UnknownModel => ("unknown_model", 404, "There is no such model", false),
            C::UnsupportedMediaType => (
                "unsupported_media_type",
                415,
                "Not an image of a supported type",
                false,
            ),
            C::ImageTooLarge => (
                "image_too_large",
                413,
                "The image has too many bytes",
                false,
            ),
            C::ImageTooManyPixels => (
                "image_too_many_pixels",
                422,
                "The image has too many pixels",
                false,
            ),
            C::ImageUndecodable => (
                "image_undecodable",
                422,
                "The image cannot be decoded",
                false,
            ),
            C::ImageUrlBlocked => (
                "image_url_blocked",
                422,
                "The image URL is not allowed",
                false,
            ),
            C::ImageUrlFailed => (
                "image_url_failed",
                422,
                "The image could not be fetched from its URL",
                true,
            ),
            C::IdempotencyKeyReused => (
                "idempotency_key_reused",
                422,
                "The key was used for another request",
                false,
            ),
            C::IdempotencyInFlight => (
                "idempotency_in_flight",
                409,
                "The first request with this key still runs",
                true,
            ),
            C::JobNotFinished => ("job_not_finished", 409, "The job is not finished", true),
            C::JobFailed => ("job_failed", 409, "The job failed", false),
            C::JobTerminal => ("job_terminal", 409, "The job has already ended", false),
            C::NotRetryable => ("not_retryable", 409, "The job cannot be retried", false),
            C::DataPurged => ("data_purged", 410, "The data was deleted", false),
            C::PreconditionFailed => ("precondition_failed", 412, "The job has changed", false),
            C::RateLimited => ("rate_limited", 429, "Too many requests", true),
            C::QuotaExceeded => ("quota_exceeded", 429, "The quota is used up", true),
            C::QueueFull => ("queue_full", 503, "The queue is full", true),
            C::ServiceUnavailable => (
                "service_unavailable",
                503,
                "The service cannot answer now",
                true,
            ),
            C::StorageRefused => (
                "storage_refused",
                500,
                "The object store refuses the service",
                false,
            ),
            C::DeadlineExceeded => (
                "deadline_exceeded",
                504,
                "The job missed its deadline",
                false,
            ),
            C::AttemptTimedOut => ("attempt_timed_out", 504, "The attempt took too long", true),
            C::OutOfMemory => ("out_of_memory", 500, "The device ran out of memory", true),
            C::ModelError => ("model_error", 500, "The model failed", false),
            C::WorkerLost => ("worker_lost", 500, "The worker vanished", true),
            C::TooManyInterruptions => (
                "too_many_interruptions",
                500,
                "Too many workers vanished over this job",
                false,
            ),
            C::Internal => ("internal", 500, "Something went wrong on our side", true),
        }
    }

    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    pub const fn status(self) -> u16 {
        self.facts().1
    }

    pub const fn title(self) -> &'static str {
        self.facts().2
    }

    pub const fn retryable(self) -> bool {
        self.facts().3
    }
}

/// One entry of `errors`: a part of the request, and its mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// JSON pointer into the request body, or `/NAME` of a query parameter.
    pub pointer: String,
    pub code: String,
    pub detail: String,
}

/// A problem, as stored with a job and as sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Path of the page that explains the code: `/problems/{code}`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    /// HTTP status that goes with the code.
    pub status: u16,
    /// What happened this time, in one sentence; never an internal cause.
    pub detail: String,
    #[cfg_attr(feature = "openapi", schema(value_type = ProblemCode))]
    pub code: Extensible<ProblemCode>,
    /// Whether a repeated request may succeed.
    pub retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title().into(),
            status: code.status(),
            detail: detail.into(),
            code: Extensible::Known(code),
            retryable: code.retryable(),
            instance: None,
            request_id: None,
            trace_id: None,
            errors: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_error(mut self, pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        let (pointer, code) = (pointer.to_owned(), code.to_owned());
        self.errors.push(FieldError {
            pointer,
            code,
            detail: detail.into(),
        });
        self
    }

    /// The problem as JSON that Postgres can store. The problem may quote the client, and Postgres takes no NUL in JSON: each
    /// NUL becomes a replacement character.
    pub fn to_json(&self) -> Value {
        let mut problem = self.clone();
        let errors = problem.errors.iter_mut();
        let errors = errors.flat_map(|error| [&mut error.pointer, &mut error.detail]);
        let texts = errors.chain([&mut problem.detail]);
        for text in texts.filter(|text| text.contains('\0')) {
            *text = text.replace('\0', "\u{fffd}");
        }
        serde_json::to_value(problem).expect("a problem has only JSON-able fields")
    }
}

impl Extensible<ProblemCode> {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Unknown(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Problem, ProblemCode};

    #[test]
    fn every_code_has_the_name_that_serde_gives_it() {
        for code in ProblemCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("JSON"), code.as_str());
        }
    }

    #[test]
    fn a_problem_that_quotes_nul_can_be_stored() {
        let problem = Problem::new(ProblemCode::InvalidParams, "what is \0?").with_error(
            "/params/\0",
            "unknown",
            "there is no \0",
        );
        let stored = problem.to_json().to_string();
        assert!(!stored.contains("u0000"), "{stored}");
        assert_eq!(stored.matches('\u{fffd}').count(), 3);
    }

    #[test]
    fn a_code_that_is_newer_keeps_its_text() {
        let mut json = Problem::new(ProblemCode::Internal, "").to_json();
        json["code"] = "new_one".into();
        let problem: Problem = serde_json::from_value(json.clone()).expect("reads");
        assert_eq!(
            (problem.code.known(), problem.code.as_str()),
            (None, "new_one")
        );
        assert_eq!(problem.to_json(), json);
    }
}
