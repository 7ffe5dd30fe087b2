use std::{collections::HashMap, sync::LazyLock};

use actix_web::{HttpRequest, HttpResponse, ResponseError, http::StatusCode, http::header};
use jobs::ProblemCode;
use utoipa::OpenApi;

use crate::{auth::Caller, error::ApiError, openapi::ApiDoc};

/// The methods of each path, as `Allow` lists them.
static ALLOWED: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let methods = |item: &utoipa::openapi::PathItem| {
        let known = [
            ("GET, HEAD", item.get.is_some()),
            ("POST", item.post.is_some()),
            ("PUT", item.put.is_some()),
            ("DELETE", item.delete.is_some()),
        ];
        let there = known.iter().filter(|(_, is_there)| *is_there);
        there.map(|(method, _)| *method).collect::<Vec<_>>()
    };
    let paths = ApiDoc::openapi().paths.paths;
    paths
        .iter()
        .map(|(path, item)| (path.clone(), methods(item).join(", ")))
        .collect()
});

/// The caller counts as on any other path, if there is one.
pub(super) async fn path(_: Result<Caller, ApiError>) -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(
        ProblemCode::NotFound,
        "there is no such path; /docs lists what there is",
    ))
}

/// As [`path`].
pub(super) async fn method(_: Result<Caller, ApiError>, request: HttpRequest) -> HttpResponse {
    let detail = format!(
        "{} is not a method of this path; /docs lists what there is",
        request.method()
    );
    let refusal = ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(StatusCode::METHOD_NOT_ALLOWED);
    let mut response = refusal.error_response();
    let pattern = request.match_pattern().unwrap_or_default();
    // What is not in the document, pages and health, is for reading.
    let allowed = ALLOWED.get(&pattern).map_or("GET, HEAD", String::as_str);
    let allowed = header::HeaderValue::from_str(allowed).expect("names of methods");
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}
