//! Who is calling: `Authorization: Bearer dk_…`, looked up at most every few seconds.

use std::{
    collections::HashMap,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::Mutex,
    time::{Duration, Instant},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web::Data};
use jobs::{
    ProblemCode, Sha256Digest,
    keys::{self, Scope},
};
use sqlx::PgPool;

use crate::{ctx::Ctx, error::ApiError};

/// A verified key is believed this long: a revocation takes effect within it.
const BELIEVED: Duration = Duration::from_secs(10);
/// Keys remembered at once; past it the memory starts anew.
const REMEMBERED_MAX: usize = 10_000;

/// Verified keys by their hash, so that not every request asks Postgres.
#[derive(Debug, Default)]
pub(crate) struct Keyring(Mutex<HashMap<Sha256Digest, (Instant, keys::Caller)>>);

impl Keyring {
    async fn verify(&self, db: &PgPool, key: &str) -> Result<Option<keys::Caller>, sqlx::Error> {
        let digest = Sha256Digest::of(key.as_bytes());
        let known = self
            .0
            .lock()
            .expect("no panic holds it")
            .get(&digest)
            .cloned();
        if let Some((at, caller)) = known
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(caller));
        }
        let caller = keys::verify(db, key).await?;
        let mut known = self.0.lock().expect("no panic holds it");
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        match &caller {
            Some(caller) => known.insert(digest, (Instant::now(), caller.clone())),
            None => known.remove(&digest),
        };
        Ok(caller)
    }
}

/// The caller of a request; without a valid key the handler is not entered.
#[derive(Debug)]
pub(crate) struct Caller(keys::Caller);

impl Caller {
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        if self.0.may(scope) {
            return Ok(());
        }
        Err(ApiError::new(
            ProblemCode::Forbidden,
            format!("this API key lacks the scope `{}`", scope.as_str()),
        ))
    }
}

impl Deref for Caller {
    type Target = keys::Caller;

    fn deref(&self) -> &keys::Caller {
        &self.0
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let ctx = request
            .app_data::<Data<Ctx>>()
            .expect("set in server.rs")
            .clone();
        let header = request.headers().get(header::AUTHORIZATION).cloned();
        Box::pin(async move {
            if ctx.config.insecure_no_auth {
                let scopes = vec![Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin];
                let (key_id, owner) = ("none".into(), "anyone".into());
                return Ok(Self(keys::Caller {
                    key_id,
                    owner,
                    scopes,
                }));
            }
            let key = header.as_ref().and_then(|value| value.to_str().ok());
            let key = key
                .and_then(|value| value.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let Some((_, key)) = key else {
                return Err(ApiError::new(
                    ProblemCode::Unauthorized,
                    "send the header `Authorization: Bearer dk_…` with an API key",
                ));
            };
            let caller = ctx.keyring.verify(&ctx.db, key.trim()).await?;
            caller.map(Self).ok_or_else(|| {
                ApiError::new(
                    ProblemCode::Unauthorized,
                    "this API key is unknown, expired or revoked",
                )
            })
        })
    }
}
