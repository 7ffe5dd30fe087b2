use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{StatusCode, header},
    web::Data,
};
use jobs::ProblemCode;

use crate::{
    http::{error::ApiError, request::method_name},
    limits::keyring::Caller,
    openapi::ApiDocument,
};

/// Answers requests that no route takes: 405 on a known path, else 404.
///
/// A key, if one is sent, is authenticated and counted as on any other path.
pub(crate) async fn unknown(
    _: Result<Caller, ApiError>,
    request: HttpRequest,
    document: Data<ApiDocument>,
) -> HttpResponse {
    if let Some(path) = request.match_pattern() {
        return wrong_method(&request, document.allowed_methods(&path));
    }
    let detail = "there is no such path; /docs lists what there is";
    ApiError::new(ProblemCode::NotFound, detail).error_response()
}

fn wrong_method(request: &HttpRequest, allowed: &str) -> HttpResponse {
    let method = match method_name(request.method()) {
        "other" => "this",
        known => known,
    };
    let detail = format!("{method} is not a method of this path; /docs lists what there is");
    let refusal = ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(StatusCode::METHOD_NOT_ALLOWED);
    let mut response = refusal.error_response();
    let allowed = header::HeaderValue::from_str(allowed).expect("names of methods");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
