//! API keys `dk_<id>_<secret>`: made once, shown once, kept as a hash.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use subtle::ConstantTimeEq;

use crate::{Secret, Sha256Digest};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Upload images, submit and cancel jobs.
    Submit,
    /// See its owner's jobs and results.
    Read,
    /// Look after queues and workers.
    Operate,
    /// Register models and make keys.
    Admin,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Submit, Self::Read, Self::Operate, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("no scope `{text}`: want submit, read, operate or admin"))
    }
}

/// Who is calling: what a valid key stands for.
#[derive(Debug, Clone)]
pub struct Caller {
    pub key_id: String,
    pub owner: String,
    pub scopes: Vec<Scope>,
}

impl Caller {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

#[derive(Debug)]
pub struct NewKey {
    pub name: String,
    /// `[a-z0-9][a-z0-9_-]{0,62}`; several keys may share one.
    pub owner: String,
    pub scopes: Vec<Scope>,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub struct CreatedKey {
    pub key_id: String,
    /// The whole key: this is the only time it can be seen.
    pub key: Secret,
}

/// Makes a key and stores the hash of its secret.
///
/// # Errors
/// Postgres is away, or refuses the owner's name.
pub async fn create(db: &PgPool, new: &NewKey) -> Result<CreatedKey, sqlx::Error> {
    let key_id = hex::encode(rand::rng().random::<[u8; 6]>());
    // 32 random bytes: nothing to guess, so a plain hash keeps it as well as a slow one would.
    let secret = URL_SAFE_NO_PAD
        .encode(rand::rng().random::<[u8; 32]>())
        .replace('_', "-");
    let scopes: Vec<String> = new
        .scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    let digest = Sha256Digest::of(secret.as_bytes());
    sqlx::query!(
        "insert into api_keys (key_id, secret_sha256, name, owner, scopes, expires_at) values ($1, $2, $3, $4, $5, $6)",
        key_id,
        digest.as_bytes().as_slice(),
        new.name,
        new.owner,
        &scopes,
        new.expires_at,
    )
    .execute(db)
    .await?;
    Ok(CreatedKey {
        key: Secret::new(format!("dk_{key_id}_{secret}")),
        key_id,
    })
}

/// Whom a presented key stands for; nobody if it is unknown, wrong, expired or revoked.
///
/// # Errors
/// Postgres is away.
pub async fn verify(db: &PgPool, presented: &str) -> Result<Option<Caller>, sqlx::Error> {
    let Some((key_id, secret)) = presented
        .strip_prefix("dk_")
        .and_then(|rest| rest.split_once('_'))
    else {
        return Ok(None);
    };
    let row = sqlx::query!(
        "select secret_sha256, owner, scopes from api_keys
         where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())",
        key_id
    )
    .fetch_optional(db)
    .await?;
    // An unknown id costs the same comparison as a wrong secret.
    let stored = row.as_ref().map_or(&[0; 32][..], |row| &row.secret_sha256);
    let same = Sha256Digest::of(secret.as_bytes()).as_bytes()[..].ct_eq(stored);
    Ok(row.filter(|_| bool::from(same)).map(|row| Caller {
        key_id: key_id.to_owned(),
        owner: row.owner,
        scopes: row
            .scopes
            .iter()
            .filter_map(|scope| scope.parse().ok())
            .collect(),
    }))
}
