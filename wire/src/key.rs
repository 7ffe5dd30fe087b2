use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Object, ShownSecret,
    time::{micros, some_micros},
};

/// An API key; its secret is shown once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = KeyBody))]
pub struct ApiKey {
    #[cfg_attr(feature = "openapi", schema(example = "1f3a9c0b7d2e"))]
    pub id: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "api_key"))]
    pub object: Object,
    /// The whole key; only in the response that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub key: Option<ShownSecret>,
    /// The beginning of the key, to recognize it.
    #[cfg_attr(feature = "openapi", schema(example = "dk_1f3a9c0b7d2e_"))]
    pub prefix: String,
    pub name: String,
    pub owner: String,
    /// `submit`, `read`, `webhooks`, `operate`, `admin`.
    pub scopes: Vec<String>,
    #[serde(serialize_with = "micros")]
    pub created_at: DateTime<Utc>,
    #[serde(serialize_with = "some_micros")]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// When a request last came with the key, to about a minute; empty if none ever came.
    // A service of an older version does not send it.
    #[serde(default, serialize_with = "some_micros")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// Its own limits; the default of the service applies where a field is empty.
    pub limits: KeyLimits,
}

/// A new API key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = KeyRequest))]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRequest {
    /// Its purpose, for people: up to 200 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub name: String,
    /// The owner whose jobs and images it can use: lowercase letters, digits, `_` and `-`, up to 63. Several keys may have one owner.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^[a-z0-9][a-z0-9_-]{0,62}$", example = "shop")
    )]
    pub owner: String,
    /// What the key may do.
    #[cfg_attr(feature = "openapi", schema(min_items = 1))]
    pub scopes: Vec<Scope>,
    /// The end of its validity; without it, the key is valid until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub limits: KeyLimits,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Upload images, submit and cancel jobs.
    Submit,
    /// See its owner's jobs and results.
    Read,
    /// Add and remove receivers of webhooks, and read their signing secrets. A receiver gets the results of all jobs of the owner.
    Webhooks,
    /// Operate queues and workers.
    Operate,
    /// Register models and make keys.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 5] = [
        Self::Submit,
        Self::Read,
        Self::Webhooks,
        Self::Operate,
        Self::Admin,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Webhooks => "webhooks",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.as_str() == text).ok_or_else(|| {
            format!("no scope `{text}`: want submit, read, webhooks, operate or admin")
        })
    }
}

/// Limits of a key. A field that is left out has the service's default; 0 is no limit, except for `priority_max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// Sustained requests a second; each API process counts for itself.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000))]
    pub requests_per_second: Option<f64>,
    /// Requests that are allowed at once after a pause.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000_000))]
    pub burst: Option<i32>,
    /// Jobs of the key's owner that have not ended. A submit with this key is refused above the limit.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub queued_jobs_max: Option<i64>,
    /// Bytes of the owner's stored images. An upload with this key is refused above the limit.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub stored_bytes_max: Option<i64>,
    /// Highest `priority` of a job that this key submits; a submit above it is refused. Without it, the service's default.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 100))]
    pub priority_max: Option<i16>,
}
