use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rand::RngExt;
use sqlx::PgPool;

use super::{KeyLimits, Scope};
use crate::{Secret, Sha256Digest};

#[derive(Debug)]
pub struct NewKey {
    pub name: String,
    /// `[a-z0-9][a-z0-9_-]{0,62}`; several keys may share one.
    pub owner: String,
    pub scopes: Vec<Scope>,
    pub expires_at: Option<DateTime<Utc>>,
    pub limits: KeyLimits,
}

#[derive(Debug)]
pub struct CreatedKey {
    pub key_id: String,
    /// The whole key. It cannot be read again later.
    pub key: Secret,
    pub created_at: DateTime<Utc>,
}

/// Whether `text` may be an owner's name, by the rule of the table: `[a-z0-9][a-z0-9_-]{0,62}`.
pub fn is_owner(text: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let rest = |c: char| first(c) || c == '_' || c == '-';
    text.starts_with(first) && text.chars().all(rest) && text.len() <= 63
}

/// Makes a key and stores the hash of its secret. `actor` is the name for the audit; the database's login if `None`.
///
/// # Errors
/// Postgres is away, or refuses the owner's name.
pub async fn create(
    db: &PgPool,
    new: &NewKey,
    actor: Option<&str>,
) -> Result<CreatedKey, sqlx::Error> {
    let key_id = hex::encode(rand::rng().random::<[u8; 6]>());
    // 32 random bytes cannot be guessed, so a slow password hash would protect the secret no better.
    let secret = URL_SAFE_NO_PAD
        .encode(rand::rng().random::<[u8; 32]>())
        .replace('_', "-");
    let scopes: Vec<String> = new
        .scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    let digest = Sha256Digest::of(secret.as_bytes());
    let created_at = sqlx::query_file_scalar!(
        "src/keys/create.sql",
        key_id,
        digest.as_bytes().as_slice(),
        new.name,
        new.owner,
        &scopes,
        new.expires_at,
        new.limits.requests_per_second,
        new.limits.burst,
        new.limits.queued_jobs_max,
        new.limits.stored_bytes_max,
        new.limits.priority_max,
        actor,
    )
    .fetch_one(db)
    .await?;
    Ok(CreatedKey {
        key: Secret::new(format!("dk_{key_id}_{secret}")),
        key_id,
        created_at,
    })
}
