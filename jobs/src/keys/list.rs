use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::KeyLimits;

/// A key without its secret.
#[derive(Debug, Clone)]
pub struct KeyView {
    pub key_id: String,
    pub name: String,
    pub owner: String,
    pub scopes: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// To about a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    pub limits: KeyLimits,
}

/// Keys of `owner`, of all owners if `None`, newest first. `before` is the last key of the previous page.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: &PgPool,
    owner: Option<&str>,
    before: Option<&str>,
    limit: u16,
) -> Result<Vec<KeyView>, sqlx::Error> {
    let rows = sqlx::query!(
        "select key_id, name, owner, scopes, created_at, expires_at, revoked_at, last_used_at,
                requests_per_second, burst, queued_jobs_max, stored_bytes_max, priority_max
         from api_keys
         where ($1::text is null or owner = $1)
           and ($2::text is null or (created_at, key_id) < (select b.created_at, b.key_id from api_keys b where b.key_id = $2))
         order by created_at desc, key_id desc limit $3",
        owner,
        before,
        i64::from(limit),
    )
    .fetch_all(db)
    .await?;
    let keys = rows.into_iter().map(|row| KeyView {
        key_id: row.key_id,
        name: row.name,
        owner: row.owner,
        scopes: row.scopes,
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
        last_used_at: row.last_used_at,
        limits: KeyLimits {
            requests_per_second: row.requests_per_second,
            burst: row.burst,
            queued_jobs_max: row.queued_jobs_max,
            stored_bytes_max: row.stored_bytes_max,
            priority_max: row.priority_max,
        },
    });
    Ok(keys.collect())
}
