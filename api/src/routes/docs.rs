use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse};

use crate::{error::ApiError, openapi, pages};

static OPENAPI: LazyLock<String> = LazyLock::new(|| openapi::document().to_string());
static REFERENCE: LazyLock<String> = LazyLock::new(|| pages::reference(&openapi::document()));

pub(super) async fn openapi_json() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(OPENAPI.as_str())
}

pub(super) async fn docs() -> HttpResponse {
    html(REFERENCE.as_str())
}

pub(super) async fn problems() -> HttpResponse {
    html(pages::all_problems())
}

/// The page that a problem's `type` points to.
pub(super) async fn problem(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let code = request.match_info().query("code");
    pages::problem(code)
        .map(html)
        .ok_or_else(ApiError::not_found)
}

fn html(page: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'",
        ))
        .body(page.into())
}
