use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use rand::RngExt;
use sqlx::PgPool;

use super::signature::PREFIX;
use crate::Secret;

/// How long the previous secret still signs after a rotation.
const OVERLAP_HOURS: i32 = 24;

/// The secret that signs webhooks to the `webhook_url` of an owner's jobs.
#[derive(Debug, Clone)]
pub struct OwnerSecret {
    pub secret: Secret,
    /// The previous secret still signs, until this time.
    pub previous: Option<(Secret, DateTime<Utc>)>,
}

/// A new random secret.
pub fn new_secret() -> Secret {
    let key = rand::rng().random::<[u8; 32]>();
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(key)))
}

struct Row {
    secret: String,
    previous_secret: Option<String>,
    previous_until: Option<DateTime<Utc>>,
}

impl From<Row> for OwnerSecret {
    fn from(row: Row) -> Self {
        let previous = row.previous_secret.map(Secret::new);
        Self {
            secret: Secret::new(row.secret),
            previous: previous.zip(row.previous_until),
        }
    }
}

/// The owner's secret; makes one if there is none.
///
/// # Errors
/// Postgres is away.
pub async fn owner_secret(db: &PgPool, owner: &str) -> Result<OwnerSecret, sqlx::Error> {
    let fresh = new_secret();
    // The update changes nothing: it makes `returning` return an existing row.
    let row = sqlx::query_as!(
        Row,
        r#"insert into webhook_secrets as s (owner, secret) values ($1, $2)
           on conflict (owner) do update set secret = s.secret
           returning secret, case when previous_until > now() then previous_secret end as previous_secret, previous_until"#,
        owner,
        fresh.expose()
    );
    Ok(row.fetch_one(db).await?.into())
}

/// Gives the owner a new secret. The previous one still signs for a day. `actor` is the name for the audit; the database's login if
/// `None`.
///
/// # Errors
/// Postgres is away.
pub async fn rotate_secret(
    db: &PgPool,
    owner: &str,
    actor: Option<&str>,
) -> Result<OwnerSecret, sqlx::Error> {
    let fresh = new_secret();
    let row = sqlx::query_as!(
        Row,
        r#"with rotated as (
           insert into webhook_secrets as s (owner, secret) values ($1, $2)
           on conflict (owner) do update
           set secret = excluded.secret, rotated_at = now(), previous_secret = s.secret, previous_until = now() + make_interval(hours => $3)
           returning secret, previous_secret, previous_until
           ),
           noted as (select audited('rotate_webhook_secret', $1, '{}', 'rotated', $4))
           select secret as "secret!", previous_secret, previous_until from rotated, noted"#,
        owner,
        fresh.expose(),
        OVERLAP_HOURS,
        actor
    );
    Ok(row.fetch_one(db).await?.into())
}
