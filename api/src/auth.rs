//! Who is calling: `Authorization: Bearer dk_…`, looked up at most every few seconds. A page that people open may get the key as
//! Basic, too.

use std::{
    collections::HashMap,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header, web::Data};
use base64::{Engine, engine::general_purpose::STANDARD};
use jobs::{
    ProblemCode, Secret, Sha256Digest,
    keys::{self, KeyLimits, Scope},
};
use sqlx::PgPool;

use crate::{config::KeyDefaults, ctx::Ctx, error::ApiError, rate::Bucket};

/// A verified key is believed this long: a revocation by another process takes effect within it.
const BELIEVED: Duration = Duration::from_secs(10);
/// Keys remembered at once; past it the memory starts anew.
const REMEMBERED_MAX: usize = 10_000;

/// Verified keys by their hash, so that not every request asks Postgres.
#[derive(Debug)]
pub(crate) struct Keyring {
    defaults: KeyDefaults,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    by_digest: HashMap<Sha256Digest, (Instant, Caller)>,
    /// Grows with every revocation: what was read before one is not remembered after it.
    revocations: u64,
}

impl Keyring {
    pub fn new(defaults: KeyDefaults) -> Self {
        Self {
            defaults,
            keys: Mutex::default(),
        }
    }

    async fn verify(&self, db: &PgPool, key: &str) -> Result<Option<Caller>, sqlx::Error> {
        let digest = Sha256Digest::of(key.as_bytes());
        let (known, revocations) = {
            let keys = self.keys.lock().expect("no panic holds it");
            (keys.by_digest.get(&digest).cloned(), keys.revocations)
        };
        if let Some((at, caller)) = &known
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(caller.clone()));
        }
        let caller = keys::verify(db, key).await?.map(|caller| {
            // What was used of the burst stays used.
            let bucket = known.map(|(_, known)| known.0.bucket.clone());
            Caller::new(caller, &self.defaults, bucket)
        });
        let mut keys = self.keys.lock().expect("no panic holds it");
        if keys.by_digest.len() >= REMEMBERED_MAX {
            keys.by_digest.clear();
        }
        match &caller {
            Some(caller) if keys.revocations == revocations => {
                keys.by_digest
                    .insert(digest, (Instant::now(), caller.clone()));
            }
            Some(_) => {}
            None => drop(keys.by_digest.remove(&digest)),
        }
        Ok(caller)
    }

    /// From now on the key is looked up again.
    pub fn forget(&self, key_id: &str) {
        let mut keys = self.keys.lock().expect("no panic holds it");
        keys.revocations += 1;
        keys.by_digest
            .retain(|_, (_, caller)| caller.key_id != key_id);
    }
}

/// The caller of a request; without a valid key the handler is not entered.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Known>);

#[derive(Debug)]
struct Known {
    key: keys::Caller,
    bucket: Arc<Bucket>,
    queued_jobs_max: i64,
    stored_bytes_max: i64,
}

impl Caller {
    fn new(key: keys::Caller, defaults: &KeyDefaults, bucket: Option<Arc<Bucket>>) -> Self {
        let rate = (key.limits.requests_per_second).unwrap_or(defaults.key_requests_per_second);
        let burst = key.limits.burst.unwrap_or(defaults.key_burst);
        let bucket = bucket.filter(|bucket| bucket.is(rate, burst));
        let jobs = key.limits.queued_jobs_max;
        let bytes = key.limits.stored_bytes_max;
        Self(Arc::new(Known {
            bucket: bucket.unwrap_or_else(|| Arc::new(Bucket::new(rate, burst))),
            queued_jobs_max: jobs.unwrap_or(defaults.owner_queued_jobs_max),
            stored_bytes_max: bytes.unwrap_or(defaults.owner_stored_bytes_max),
            key,
        }))
    }

    /// Whoever calls a service that asks nobody who he is.
    fn anyone() -> Self {
        let key = keys::Caller {
            key_id: "none".into(),
            owner: "anyone".into(),
            scopes: vec![Scope::Submit, Scope::Read, Scope::Operate, Scope::Admin],
            limits: KeyLimits::default(),
        };
        Self::new(key, &KeyDefaults::UNLIMITED, None)
    }

    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            return Ok(());
        }
        Err(ApiError::new(
            ProblemCode::Forbidden,
            format!("this API key lacks the scope `{}`", scope.as_str()),
        ))
    }

    /// Unended jobs of its owner; 0: no limit.
    pub fn queued_jobs_max(&self) -> i64 {
        self.0.queued_jobs_max
    }

    /// Bytes of its owner's images; 0: no limit.
    pub fn stored_bytes_max(&self) -> i64 {
        self.0.stored_bytes_max
    }

    /// Whom the key stands for, with one request taken from what it may send.
    async fn with_key(ctx: &Ctx, request: &HttpRequest, key: &str) -> Result<Self, ApiError> {
        let caller = ctx.keyring.verify(&ctx.db, key).await?;
        let caller = caller.ok_or_else(|| {
            ApiError::new(
                ProblemCode::Unauthorized,
                "this API key is unknown, expired or revoked",
            )
        })?;
        caller.spend(request)
    }

    /// Takes one request from what the key may send, and leaves how it stands with the request.
    fn spend(self, request: &HttpRequest) -> Result<Self, ApiError> {
        let Some(allowance) = self.0.bucket.take(Instant::now()) else {
            return Ok(self);
        };
        request.extensions_mut().insert(allowance);
        match allowance.wait_seconds {
            None => Ok(self),
            Some(seconds) => Err(ApiError::new(
                ProblemCode::RateLimited,
                "this API key sends requests faster than it may: the RateLimit headers tell its limit",
            )
            .retry_after(seconds)),
        }
    }
}

impl Deref for Caller {
    type Target = keys::Caller;

    fn deref(&self) -> &keys::Caller {
        &self.0.key
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let ctx = request.app_data::<Data<Ctx>>().expect("set in server.rs");
            if ctx.config.insecure_no_auth {
                return Ok(Self::anyone());
            }
            let key = credentials(&request, "bearer").ok_or_else(|| {
                ApiError::new(
                    ProblemCode::Unauthorized,
                    "send the header `Authorization: Bearer dk_…` with an API key",
                )
            })?;
            Self::with_key(ctx, &request, key).await
        })
    }
}

/// Who opens a page, and with which key, empty if nobody is asked for one: it may also be the password of Basic, which browsers
/// know how to ask for.
///
/// For pages only. A browser sends Basic by itself from then on, whoever made it ask: on `/v1` any page of anybody could act.
pub(crate) async fn visitor(
    ctx: &Ctx,
    request: &HttpRequest,
) -> Result<(Caller, Secret), ApiError> {
    if ctx.config.insecure_no_auth {
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
    let caller = Caller::with_key(ctx, request, &key).await?;
    Ok((caller, Secret::new(key)))
}

/// What `Authorization` says, if it says it in this scheme.
fn credentials<'a>(request: &'a HttpRequest, scheme: &str) -> Option<&'a str> {
    let header = request.headers().get(header::AUTHORIZATION)?;
    let (said, credentials) = header.to_str().ok()?.split_once(' ')?;
    said.eq_ignore_ascii_case(scheme)
        .then_some(credentials.trim())
}

/// The password of Basic; the name before it may be any. It is no more than what a `Bearer` could be: Postgres takes no NUL.
fn password(credentials: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let password = decoded.split_once(':')?.1.trim();
    let is_plain = password.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| password.to_owned())
}
