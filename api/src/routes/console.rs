use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Data,
};
use jobs::keys::Scope;

use crate::{auth, ctx::Ctx, error::ApiError, pages};

/// Makes a browser ask; it shows the realm to whom it asks.
const CHALLENGE: &str =
    "Basic realm=\"Darkroom: a key with scope operate is the password\", charset=\"UTF-8\"";

/// The page for operators, with the key that opened it: its script asks the API as any other client does.
pub(super) async fn console(
    ctx: Data<Ctx>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (caller, key) = match auth::visitor(&ctx, &request).await {
        Err(refusal) if refusal.status_code() == StatusCode::UNAUTHORIZED => {
            let mut response = refusal.error_response();
            let headers = response.headers_mut();
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(CHALLENGE),
            );
            return Ok(response);
        }
        visitor => visitor?,
    };
    caller.needs(Scope::Operate)?;
    Ok(HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", pages::CONSOLE_POLICY.as_str()))
        // It has a key in it: nobody keeps it, frames it, or loads it into a page of another origin.
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("Cross-Origin-Resource-Policy", "same-origin"))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .body(pages::console(key.expose())))
}
