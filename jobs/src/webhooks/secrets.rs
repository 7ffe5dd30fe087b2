use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use rand::RngExt;
use sqlx::PgPool;

use super::signature::PREFIX;
use crate::Secret;

/// How long a replaced secret still signs.
const OVERLAP_HOURS: i32 = 24;
/// Most replaced secrets of an owner that still sign: each adds a signature to every message.
pub const PREVIOUS_SECRETS_MAX: i32 = 10;

/// The secret that signs webhooks to the `webhook_url` of an owner's jobs.
#[derive(Debug, Clone)]
pub struct OwnerSecret {
    pub secret: Secret,
    /// Replaced secrets that still sign, each until its time; the latest first.
    pub previous: Vec<(Secret, DateTime<Utc>)>,
}

/// A new random secret.
pub fn new_secret() -> Secret {
    let key = rand::rng().random::<[u8; 32]>();
    Secret::new(format!("{PREFIX}{}", STANDARD.encode(key)))
}

/// The owner's secret; makes one if there is none.
///
/// # Errors
/// Postgres is away.
pub async fn owner_secret(db: &PgPool, owner: &str) -> Result<OwnerSecret, sqlx::Error> {
    let fresh = new_secret();
    // The update changes nothing: it makes `returning` return an existing row.
    let row = sqlx::query!(
        r#"with current as (
               insert into webhook_secrets as s (owner, secret) values ($1, $2)
               on conflict (owner) do update set secret = s.secret
               returning secret
           )
           select secret as "secret!",
                  array(select p.secret from webhook_previous_secrets p where p.owner = $1 and p.valid_until > now() order by p.valid_until desc)
                      as "previous_secrets!",
                  array(select p.valid_until from webhook_previous_secrets p where p.owner = $1 and p.valid_until > now() order by p.valid_until desc)
                      as "valid_until!"
           from current"#,
        owner,
        fresh.expose()
    )
    .fetch_one(db)
    .await?;
    let previous = row.previous_secrets.into_iter().map(Secret::new);
    Ok(OwnerSecret {
        secret: Secret::new(row.secret),
        previous: previous.zip(row.valid_until).collect(),
    })
}

/// The result of a rotation.
#[derive(Debug, Clone)]
pub enum Rotation {
    Rotated(OwnerSecret),
    /// [`PREVIOUS_SECRETS_MAX`] replaced secrets still sign, the first of them until this time. Nothing has changed.
    Refused(DateTime<Utc>),
}

/// Gives the owner a new secret. The replaced one still signs for a day, whatever further rotations do. `actor` is the name for the
/// audit; the database's login if `None`.
///
/// # Errors
/// Postgres is away.
pub async fn rotate_secret(
    db: &PgPool,
    owner: &str,
    actor: Option<&str>,
) -> Result<Rotation, sqlx::Error> {
    let fresh = new_secret();
    let row = sqlx::query!(
        "select r.refused_until,
                case when r.refused_until is null then audited('rotate_webhook_secret', $1, '{}', 'rotated', $5) end as noted
         from rotate_webhook_secret($1, $2, make_interval(hours => $3), $4) as r(refused_until)",
        owner,
        fresh.expose(),
        OVERLAP_HOURS,
        PREVIOUS_SECRETS_MAX,
        actor
    );
    match row.fetch_one(db).await?.refused_until {
        Some(until) => Ok(Rotation::Refused(until)),
        None => Ok(Rotation::Rotated(owner_secret(db, owner).await?)),
    }
}
