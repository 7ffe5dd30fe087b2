use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use jobs::ProblemCode;

use crate::error::ApiError;

pub(super) async fn path() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(
        ProblemCode::NotFound,
        "there is no such path; /docs lists what there is",
    ))
}

pub(super) async fn method(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let detail = format!(
        "{} is not a method of this path; /docs lists what there is",
        request.method()
    );
    Err(ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(StatusCode::METHOD_NOT_ALLOWED))
}
