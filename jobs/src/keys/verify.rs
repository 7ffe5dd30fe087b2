use sqlx::PgPool;
use subtle::ConstantTimeEq;

use super::{Caller, KeyLimits};
use crate::Sha256Digest;

/// The caller that a presented key identifies; `None` if the key is unknown, wrong, expired or revoked.
///
/// # Errors
/// Postgres is away.
pub async fn verify(db: &PgPool, presented: &str) -> Result<Option<Caller>, sqlx::Error> {
    let Some((key_id, secret)) = presented
        .strip_prefix(super::PREFIX)
        .and_then(|rest| rest.split_once('_'))
    else {
        return Ok(None);
    };
    let row = sqlx::query!(
        "select secret_sha256, owner, scopes, requests_per_second, burst, queued_jobs_max, stored_bytes_max from api_keys
         where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())",
        key_id
    )
    .fetch_optional(db)
    .await?;
    // Also for an unknown id, so that its answer takes as long as that of a wrong secret.
    let stored = row.as_ref().map_or(&[0; 32][..], |row| &row.secret_sha256);
    let matches = Sha256Digest::of(secret.as_bytes()).as_bytes()[..].ct_eq(stored);
    Ok(row.filter(|_| bool::from(matches)).map(|row| Caller {
        key_id: key_id.to_owned(),
        owner: row.owner,
        scopes: row
            .scopes
            .iter()
            .filter_map(|scope| scope.parse().ok())
            .collect(),
        limits: KeyLimits {
            requests_per_second: row.requests_per_second,
            burst: row.burst,
            queued_jobs_max: row.queued_jobs_max,
            stored_bytes_max: row.stored_bytes_max,
        },
    }))
}
