use sqlx::PgPool;
use subtle::ConstantTimeEq;

use super::{Caller, KeyLimits};
use crate::Sha256Digest;

/// Why a key is refused. The caller is not told which of these it is; the audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyRefused {
    /// No key has this id, or the text is no key.
    UnknownKey,
    /// The id exists, with another secret.
    WrongSecret,
    /// The right key, after its revocation.
    Revoked,
    /// The right key, after its time.
    Expired,
}

impl WhyRefused {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::WrongSecret => "wrong_secret",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A key that was presented and is not valid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedKey {
    /// Only of a key that exists: a caller cannot invent it.
    pub key_id: Option<String>,
    pub why: WhyRefused,
}

impl RefusedKey {
    pub const UNKNOWN: Self = Self {
        key_id: None,
        why: WhyRefused::UnknownKey,
    };
}

/// The caller that a presented key identifies, or why it identifies none.
///
/// # Errors
/// Postgres is away.
pub async fn verify(
    db: &PgPool,
    presented: &str,
) -> Result<Result<Caller, RefusedKey>, sqlx::Error> {
    let Some((key_id, secret)) = presented
        .strip_prefix(super::PREFIX)
        .and_then(|rest| rest.split_once('_'))
    else {
        return Ok(Err(RefusedKey::UNKNOWN));
    };
    let row = sqlx::query!(
        r#"select secret_sha256, owner, scopes, requests_per_second, burst, queued_jobs_max, stored_bytes_max, priority_max,
                  revoked_at is not null as "is_revoked!", coalesce(expires_at <= now(), false) as "is_expired!"
           from api_keys where key_id = $1"#,
        key_id
    )
    .fetch_optional(db)
    .await?;
    // Also for an unknown id, so that its answer takes as long as that of a wrong secret.
    let stored = row.as_ref().map_or(&[0; 32][..], |row| &row.secret_sha256);
    let matches = bool::from(Sha256Digest::of(secret.as_bytes()).as_bytes()[..].ct_eq(stored));
    let Some(row) = row else {
        return Ok(Err(RefusedKey::UNKNOWN));
    };
    let why = if !matches {
        Some(WhyRefused::WrongSecret)
    } else if row.is_revoked {
        Some(WhyRefused::Revoked)
    } else if row.is_expired {
        Some(WhyRefused::Expired)
    } else {
        None
    };
    let key_id = key_id.to_owned();
    if let Some(why) = why {
        let key_id = Some(key_id);
        return Ok(Err(RefusedKey { key_id, why }));
    }
    Ok(Ok(Caller {
        key_id,
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
            priority_max: row.priority_max,
        },
    }))
}
