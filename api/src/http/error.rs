//! Errors of handlers: a problem for the client, a cause for the log.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use jobs::{
    Problem, ProblemCode, db, images::CollectError, object_store::StoreError, queue::QueueError,
    telemetry,
};
use wire::Extensible;

use super::request::add_request_info;

/// The error of a handler. Its cause is logged once, when the error is made, and never sent.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    problem: Box<Problem>,
    /// Replaces the status of the code: 405, 408, 413.
    status: Option<StatusCode>,
    /// Seconds for `Retry-After`.
    retry_after_seconds: Option<u32>,
}

impl ApiError {
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Box::new(Problem::new(code, detail)).into()
    }

    pub fn not_found() -> Self {
        Self::new(
            ProblemCode::NotFound,
            "nothing with this id or path is yours to see",
        )
    }

    /// A field of the request that does not fit; `pointer` is its JSON pointer, `code` says why for machines. Clients that show
    /// only the top-level detail show the mistake too.
    pub fn invalid_field(pointer: &str, code: &str, detail: &str) -> Self {
        let summary = match pointer {
            "" => detail.to_owned(),
            pointer => format!("{pointer}: {detail}"),
        };
        Self::new(ProblemCode::InvalidParams, summary).with_error(pointer, code, detail)
    }

    /// A query parameter that does not fit.
    pub fn invalid_query(name: &str, detail: &str) -> Self {
        Self::invalid_field(&format!("/{name}"), "invalid", detail)
    }

    /// The problem if the client caused the error (4xx); else the error itself.
    pub fn into_client_problem(self) -> Result<Problem, Self> {
        if self.status_code().is_client_error() {
            Ok(*self.problem)
        } else {
            Err(self)
        }
    }

    #[must_use]
    pub fn with_error(mut self, pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        self.problem = Box::new(self.problem.with_error(pointer, code, detail));
        self
    }

    /// Says that the same request may succeed later, although the code does not say so.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.problem.retryable = true;
        self
    }

    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self.status = Some(status);
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// A failure of this service that passes: the client may try again. The cause is logged.
    pub fn unavailable(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(
            error.cause = telemetry::chain(cause),
            error.advice = db::advice(cause),
            "a dependency failed: the request is answered with 503"
        );
        Self::new(
            ProblemCode::ServiceUnavailable,
            "a part of the service is away for the moment; nothing was lost, try again",
        )
        .retry_after(1)
    }

    /// A bug of this service: the client gets a request id to quote. The cause is logged.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error.cause = telemetry::chain(cause), "internal error");
        Self::new(
            ProblemCode::Internal,
            "this was our mistake; quote the request id when you report it",
        )
    }
}

impl From<Box<Problem>> for ApiError {
    fn from(problem: Box<Problem>) -> Self {
        Self {
            problem,
            status: None,
            retry_after_seconds: None,
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        db::note_error(&error);
        match &error {
            sqlx::Error::Database(refusal) if !db::is_passing(refusal.as_ref()) => {
                Self::internal(&error)
            }
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Self::internal(&error),
            _ => Self::unavailable(&error),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full => Self::new(
                ProblemCode::QueueFull,
                "more submits are waiting than this process takes; nothing was stored, try again",
            )
            .retry_after(1),
            QueueError::Db(error) => error.into(),
            QueueError::ImagePurged => Self::unavailable(&error),
            QueueError::LeaseLost | QueueError::KeyTaken => Self::internal(&error),
        }
    }
}

impl From<CollectError> for ApiError {
    fn from(error: CollectError) -> Self {
        match error {
            CollectError::Db(error) => error.into(),
            CollectError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(_) => {
                Self::new(ProblemCode::DataPurged, "the data of this job was deleted")
            }
            StoreError::Corrupt(_) => Self::internal(&error),
            StoreError::Unavailable(_) => Self::unavailable(&error),
            StoreError::Refused(_) => {
                tracing::error!(
                    error.cause = telemetry::chain(&error),
                    "the object store refuses this process: an operator has to change a setting"
                );
                Self::new(
                    ProblemCode::StorageRefused,
                    "the object store refuses this service until its operator changes a setting; nothing was accepted",
                )
            }
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem.code.as_str(), self.problem.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status.unwrap_or_else(|| {
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    fn error_response(&self) -> HttpResponse {
        let mut problem = (*self.problem).clone();
        add_request_info(&mut problem);
        // A code that this version does not know came from the database, not from here.
        let code = match problem.code {
            Extensible::Known(code) => code.as_str(),
            Extensible::Unknown(_) => "other",
        };
        metrics::counter!("darkroom_problems_total", "code" => code).increment(1);
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if problem.code == ProblemCode::Unauthorized {
            response.insert_header(("WWW-Authenticate", "Bearer"));
        }
        response.body(serde_json::to_string(&problem).expect("a problem has only JSON-able fields"))
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error::Error, fmt};

    use actix_web::ResponseError;
    use sqlx::error::{DatabaseError, ErrorKind};

    use super::ApiError;

    /// An answer of Postgres with this code.
    #[derive(Debug)]
    struct Refusal(&'static str);

    impl fmt::Display for Refusal {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Refusal {}

    impl DatabaseError for Refusal {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn a_trouble_of_postgres_that_passes_is_a_503_that_says_when_to_come_back() {
        for code in [
            "25006", "28P01", "3D000", "53100", "53300", "57P01", "08006",
        ] {
            let error = ApiError::from(sqlx::Error::Database(Box::new(Refusal(code))));
            let answer = error.error_response();
            assert_eq!(answer.status(), 503, "{code}");
            assert!(answer.headers().contains_key("Retry-After"), "{code}");
        }
        let bug = ApiError::from(sqlx::Error::Database(Box::new(Refusal("42601"))));
        assert_eq!(bug.status_code(), 500);
    }
}
