//! The OpenAPI document and the pages for people: `/docs`, `/problems`, `/console`. They are not part of the document.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError, get,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Data,
};
use jobs::keys::Scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    http::error::ApiError,
    limits::{auth::authenticate_page, keyring::Keyring},
    openapi::ApiDocument,
    pages,
};

/// Makes a browser ask for a name and a password. It shows the realm.
const CHALLENGE: &str =
    "Basic realm=\"Darkroom: a key with scope operate is the password\", charset=\"UTF-8\"";

pub(super) fn configure(config: &mut ServiceConfig) {
    config.map(|config| {
        config
            .service(openapi_json)
            .service(docs)
            .service(problems)
            .service(problem)
            .service(console)
    });
}

#[get("/openapi.json")]
async fn openapi_json(document: Data<ApiDocument>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(document.json.clone())
}

#[get("/docs")]
async fn docs(document: Data<ApiDocument>) -> HttpResponse {
    html(document.reference.clone())
}

#[get("/problems")]
async fn problems() -> HttpResponse {
    html(pages::all_problems())
}

/// The page that the `type` of a problem points to.
#[get("/problems/{code}")]
async fn problem(request: HttpRequest) -> Result<HttpResponse, ApiError> {
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

/// The page for operators. It contains the key that opened it: its script calls the API like any other client.
#[get("/console")]
async fn console(keyring: Data<Keyring>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (caller, key) = match authenticate_page(&keyring, &request).await {
        Err(refusal) if refusal.status_code() == StatusCode::UNAUTHORIZED => {
            let mut response = refusal.error_response();
            let headers = response.headers_mut();
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(CHALLENGE),
            );
            return Ok(response);
        }
        caller => caller?,
    };
    caller.needs(Scope::Operate)?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", pages::CONSOLE_POLICY.as_str()))
        // The page contains a key: no cache stores it, and no page of another origin frames or loads it.
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(pages::console(key.expose())))
}
