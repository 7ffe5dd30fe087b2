//! An API key as clients read it.

use chrono::{DateTime, Utc};
use jobs::{
    Secret,
    keys::{KeyLimits, KeyView},
    rfc3339::{micros, some_micros},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// An API key; its secret is shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    #[schema(example = "1f3a9c0b7d2e")]
    id: String,
    #[schema(example = "api_key")]
    object: &'static str,
    /// The whole key, only in the answer that makes it.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<Secret>,
    /// What the key begins with, to tell which one it is.
    #[schema(example = "dk_1f3a9c0b7d2e_")]
    prefix: String,
    name: String,
    owner: String,
    /// `submit`, `read`, `operate`, `admin`.
    scopes: Vec<String>,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "some_micros")]
    expires_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "some_micros")]
    revoked_at: Option<DateTime<Utc>>,
    /// Its own limits; a field that is empty is what the service gives to any key.
    limits: KeyLimits,
}

#[allow(clippy::ref_option)] // the signature that serde asks for
fn shown<S: Serializer>(key: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match key {
        Some(key) => serializer.serialize_some(key.expose()),
        None => serializer.serialize_none(),
    }
}

impl KeyBody {
    pub fn new(view: KeyView, key: Option<Secret>) -> Self {
        Self {
            object: "api_key",
            key,
            prefix: format!("dk_{}_", view.key_id),
            id: view.key_id,
            name: view.name,
            owner: view.owner,
            scopes: view.scopes,
            created_at: view.created_at,
            expires_at: view.expires_at,
            revoked_at: view.revoked_at,
            limits: view.limits,
        }
    }
}
