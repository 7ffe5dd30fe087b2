//! API keys that this process has verified, and the caller behind each.

use jobs::db::Db;
use std::{
    net::IpAddr,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::{
    ProblemCode, Sha256Digest,
    audit::Act,
    keys::{self, KeyLimits, RefusedKey, Scope},
};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    access_log::AccessLog,
    open_requests::{OpenRequest, OpenRequests},
    rates::TokenBucket,
    wrong_keys::WrongKeys,
};
use crate::{
    config::{KeyDefaults, WrongKeyConfig},
    http::error::ApiError,
};

/// How long a verified key is trusted. A revocation by another process takes effect within this time.
const TRUSTED_FOR: Duration = Duration::from_secs(10);
const KEYS_MAX: u64 = 10_000;

/// Verified keys by the digest of their text, so that not every request asks Postgres.
#[derive(Debug)]
pub(crate) struct Keyring {
    db: Db,
    defaults: KeyDefaults,
    /// False with `--insecure-no-auth`.
    pub needs_keys: bool,
    pub access_log: Arc<AccessLog>,
    verified: Cache<Sha256Digest, Verified>,
    wrong_keys: WrongKeys,
    /// Ids of keys that this process revoked lately, and when. What was read before that is not trusted.
    revoked: Cache<String, Instant>,
}

#[derive(Debug, Clone)]
struct Verified {
    /// Before the key was read from Postgres.
    read_at: Instant,
    caller: Caller,
}

impl Keyring {
    pub fn new(
        db: Db,
        defaults: KeyDefaults,
        wrong_keys: WrongKeyConfig,
        needs_keys: bool,
        access_log: Arc<AccessLog>,
    ) -> Self {
        Self {
            db,
            access_log,
            defaults,
            needs_keys,
            wrong_keys: WrongKeys::new(wrong_keys),
            verified: Cache::builder()
                .max_capacity(KEYS_MAX)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            // No capacity: losing a revocation would let a revoked key in.
            revoked: Cache::builder().time_to_live(2 * TRUSTED_FOR).build(),
        }
    }

    /// The caller with this key, which came from this address.
    ///
    /// # Errors
    /// `unauthorized`: the key is unknown, expired or revoked. The audit counts it, and knows which of these it is. `rate_limited`:
    /// too many wrong keys came from the address; a key that this process has seen before passes all the same.
    pub async fn verify(&self, key: &str, address: Option<IpAddr>) -> Result<Caller, ApiError> {
        // Costs no query.
        if !key.starts_with(keys::PREFIX) {
            self.access_log
                .note_refused_key(RefusedKey::UNKNOWN, address);
            return Err(wrong_key());
        }
        let digest = Sha256Digest::of(key.as_bytes());
        let known = self.verified.get(&digest);
        if let Some(known) = &known
            && self.is_trusted(known)
        {
            return Ok(known.caller.clone());
        }
        if known.is_none()
            && let Some(seconds) = self.wrong_keys.wait_seconds(address)
        {
            let detail =
                "too many wrong API keys came from your address: wait before you send another one";
            return Err(ApiError::new(ProblemCode::RateLimited, detail).retry_after(seconds));
        }
        if let Some(refused) = self.wrong_keys.refusal(&digest) {
            return Err(self.refuse(digest, refused, address));
        }
        let read_at = Instant::now();
        let key = match keys::verify(&self.db, key).await? {
            Ok(key) => key,
            Err(refused) => {
                self.verified.invalidate(&digest);
                return Err(self.refuse(digest, refused, address));
            }
        };
        self.access_log.note_use(&key.key_id);
        // What the caller before has stays: a key gets no new burst when it is verified again, and none for each of its first
        // requests, which are verified at the same time. The closure runs alone for its key.
        let entry = self.verified.entry(digest).and_upsert_with(|latest| {
            let before = latest.map(|latest| latest.into_value().caller);
            let access_log = Some(self.access_log.clone());
            Verified {
                read_at,
                caller: Caller::new(key, &self.defaults, before, access_log),
            }
        });
        Ok(entry.into_value().caller)
    }

    /// Notes a wrong key, for the limit of its address and for the audit.
    fn refuse(
        &self,
        digest: Sha256Digest,
        refused: RefusedKey,
        address: Option<IpAddr>,
    ) -> ApiError {
        self.wrong_keys.note(digest, refused.clone(), address);
        self.access_log.note_refused_key(refused, address);
        wrong_key()
    }

    fn is_trusted(&self, known: &Verified) -> bool {
        let revoked_at = self.revoked.get(&known.caller.key_id);
        known.read_at.elapsed() < TRUSTED_FOR && revoked_at.is_none_or(|at| at < known.read_at)
    }

    /// Notes that a key was revoked, after the commit: from now on it is read from Postgres again.
    pub fn forget(&self, key_id: &str) {
        self.revoked.insert(key_id.to_owned(), Instant::now());
    }
}

fn wrong_key() -> ApiError {
    let detail = "this API key is unknown, expired or revoked";
    ApiError::new(ProblemCode::Unauthorized, detail)
}

/// The caller of a request: its key, its owner, its limits. As an argument of a handler, it requires a valid key.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<KeyWithLimits>);

#[derive(Debug)]
struct KeyWithLimits {
    key: keys::Caller,
    bucket: Arc<TokenBucket>,
    open: OpenRequests,
    open_max: u32,
    queued_jobs_max: i64,
    stored_bytes_max: i64,
    priority_max: i16,
    /// `None` in a service without keys.
    access_log: Option<Arc<AccessLog>>,
}

impl Caller {
    /// `before` is the caller as of the last verification. Its bucket stays, and its open requests.
    fn new(
        key: keys::Caller,
        defaults: &KeyDefaults,
        before: Option<Self>,
        access_log: Option<Arc<AccessLog>>,
    ) -> Self {
        let rate = (key.limits.requests_per_second).unwrap_or(defaults.key_requests_per_second);
        let burst = key.limits.burst.unwrap_or(defaults.key_burst);
        let bucket = before.as_ref().map(|before| before.0.bucket.clone());
        let bucket = bucket.filter(|bucket| bucket.has_limits(rate, burst));
        let jobs = key.limits.queued_jobs_max;
        let bytes = key.limits.stored_bytes_max;
        let priority = key.limits.priority_max;
        Self(Arc::new(KeyWithLimits {
            bucket: bucket.unwrap_or_else(|| Arc::new(TokenBucket::new(rate, burst))),
            open: before.map_or_else(OpenRequests::default, |before| before.0.open.clone()),
            open_max: defaults.key_requests_open_max,
            queued_jobs_max: jobs.unwrap_or(defaults.owner_queued_jobs_max),
            stored_bytes_max: bytes.unwrap_or(defaults.owner_stored_bytes_max),
            priority_max: priority.unwrap_or(defaults.key_priority_max),
            access_log,
            key,
        }))
    }

    /// The caller of a service without keys: owner `anyone`, every scope, no limits.
    pub fn anyone() -> Self {
        let key = keys::Caller {
            key_id: "none".into(),
            owner: "anyone".into(),
            scopes: Scope::ALL.to_vec(),
            limits: KeyLimits::default(),
        };
        Self::new(key, &KeyDefaults::UNLIMITED, None, None)
    }

    /// Refuses a caller without this scope with `forbidden`.
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            return Ok(());
        }
        if let Some(access_log) = &self.0.access_log {
            access_log.note_refused_scope(self, scope);
        }
        Err(ApiError::new(
            ProblemCode::Forbidden,
            format!("this API key lacks the scope `{}`", scope.as_str()),
        ))
    }

    /// The caller's name in the audit log.
    pub fn audit_name(&self) -> String {
        format!("api key {} of {}", self.key_id, self.owner)
    }

    /// A row of the audit that names this caller.
    pub fn act(
        &self,
        verb: &'static str,
        subject: String,
        arguments: serde_json::Value,
        outcome: &'static str,
    ) -> Act {
        Act {
            actor: Some(self.audit_name()),
            verb,
            subject,
            arguments,
            outcome,
        }
    }

    /// Most unended jobs of the owner; 0: no limit.
    pub fn queued_jobs_max(&self) -> i64 {
        self.0.queued_jobs_max
    }

    /// Most bytes of the owner's images; 0: no limit.
    pub fn stored_bytes_max(&self) -> i64 {
        self.0.stored_bytes_max
    }

    /// Highest priority of a job that the caller may submit.
    pub fn priority_max(&self) -> i16 {
        self.0.priority_max
    }

    /// Opens a request of the key; the request is open until the value is dropped.
    ///
    /// # Errors
    /// `rate_limited`: the key has too many open requests.
    pub fn open_request(&self) -> Result<OpenRequest, ApiError> {
        self.0.open.open(self.0.open_max).ok_or_else(|| {
            let detail = format!(
                "this API key has {} open requests, and may have no more: wait for some of the answers",
                self.0.open_max
            );
            ApiError::new(ProblemCode::RateLimited, detail).retry_after(1)
        })
    }

    /// The rate limit of the key.
    pub fn bucket(&self) -> &TokenBucket {
        &self.0.bucket
    }
}

impl Deref for Caller {
    type Target = keys::Caller;

    fn deref(&self) -> &keys::Caller {
        &self.0.key
    }
}
