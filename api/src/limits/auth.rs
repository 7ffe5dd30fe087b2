//! Authentication: `Authorization: Bearer dk_…` on every path; for pages that browsers open, also Basic.

use std::{future::Future, pin::Pin, time::Instant};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header, web::Data};
use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{ProblemCode, Secret};

use super::keyring::{Caller, Keyring};
use crate::http::error::ApiError;

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let keyring = request
                .app_data::<Data<Keyring>>()
                .expect("set in server.rs");
            if !keyring.needs_keys {
                return Ok(Self::anyone());
            }
            let key = credentials(&request, "bearer").ok_or_else(|| {
                ApiError::new(
                    ProblemCode::Unauthorized,
                    "send the header `Authorization: Bearer dk_…` with an API key",
                )
            })?;
            authenticate(keyring, &request, key).await
        })
    }
}

/// The caller who opens a page, and the key; the key is empty if the service needs none.
///
/// Browsers send the key as the password of Basic. For pages only: a browser repeats Basic on every request to this origin, also
/// on requests that a foreign page causes. On `/v1` such a page could act with the operator's key.
pub(crate) async fn authenticate_page(
    keyring: &Keyring,
    request: &HttpRequest,
) -> Result<(Caller, Secret), ApiError> {
    if !keyring.needs_keys {
        return Ok((Caller::anyone(), Secret::new("")));
    }
    let key = credentials(request, "bearer")
        .map(str::to_owned)
        .or_else(|| password(credentials(request, "basic")?));
    let key = key.ok_or_else(|| {
        ApiError::new(
            ProblemCode::Unauthorized,
            "send an API key: as `Authorization: Bearer dk_…`, or as the password of Basic",
        )
    })?;
    let caller = authenticate(keyring, request, &key).await?;
    Ok((caller, Secret::new(key)))
}

/// The caller with this key. Takes one request from the rate limit of the key, and counts the request as open.
async fn authenticate(
    keyring: &Keyring,
    request: &HttpRequest,
    key: &str,
) -> Result<Caller, ApiError> {
    let address = request.peer_addr().map(|address| address.ip());
    let caller = keyring.verify(key, address).await?;
    take_request(&caller, request)?;
    let open = caller.open_request()?;
    request.extensions_mut().insert(open);
    Ok(caller)
}

/// Takes one request from the rate limit, and adds the `RateLimit` headers to the response.
fn take_request(caller: &Caller, request: &HttpRequest) -> Result<(), ApiError> {
    let Some(allowance) = caller.bucket().take(Instant::now()) else {
        return Ok(());
    };
    request.extensions_mut().insert(allowance.headers());
    match allowance.wait_seconds {
        None => Ok(()),
        Some(seconds) => Err(ApiError::new(
            ProblemCode::RateLimited,
            "this API key sends requests faster than it may: the RateLimit headers tell its limit",
        )
        .retry_after(seconds)),
    }
}

/// The credentials of `Authorization`, if they are of this scheme.
fn credentials<'a>(request: &'a HttpRequest, scheme: &str) -> Option<&'a str> {
    let header = request.headers().get(header::AUTHORIZATION)?;
    let (found, credentials) = header.to_str().ok()?.split_once(' ')?;
    found
        .eq_ignore_ascii_case(scheme)
        .then_some(credentials.trim())
}

/// The password of Basic; the user name may be any. Only printable ASCII, as in a `Bearer`: Postgres takes no NUL.
fn password(credentials: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let password = decoded.split_once(':')?.1.trim();
    let is_plain = password.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| password.to_owned())
}
