use sqlx::PgPool;

use super::QueueError;
use crate::{BatchId, JobId, Sha256Digest};

/// A client's name for one request. A repeated request with the key queues nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Unique per owner for two days at least.
    pub key: String,
    /// Digest of the whole request.
    pub fingerprint: Sha256Digest,
}

/// The earlier request with a key.
#[derive(Debug, Clone, Copy)]
pub struct EarlierRequest {
    pub job_id: JobId,
    /// Set if the key belongs to a batch, which has a fingerprint of its own.
    pub batch_id: Option<BatchId>,
    pub fingerprint: Sha256Digest,
}

/// How long a key is kept at least.
const KEPT_HOURS: i32 = 48;

/// The earlier request of this owner with this key, if there is one.
///
/// # Errors
/// Postgres is away.
pub async fn find_earlier_request(
    db: &PgPool,
    owner: &str,
    key: &str,
) -> Result<Option<EarlierRequest>, QueueError> {
    let row = sqlx::query!(
        "select job_id, batch_id, fingerprint from idempotency_keys where owner = $1 and key = $2",
        owner,
        key
    )
    .fetch_optional(db)
    .await?;
    let earlier = row.map(|row| {
        let fingerprint = row.fingerprint.as_slice().try_into();
        let fingerprint = fingerprint.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok::<_, sqlx::Error>(EarlierRequest {
            job_id: row.job_id.into(),
            batch_id: row.batch_id.map(Into::into),
            fingerprint,
        })
    });
    Ok(earlier.transpose()?)
}

/// Binds a new key to an existing job. `false`: the owner used the key before.
///
/// # Errors
/// Postgres is away.
pub async fn remember_key(
    db: &PgPool,
    owner: &str,
    idempotency: &IdempotencyKey,
    job: JobId,
) -> Result<bool, QueueError> {
    let remembered = sqlx::query!(
        "insert into idempotency_keys (owner, key, fingerprint, job_id) values ($1, $2, $3, $4)
         on conflict (owner, key) do nothing",
        owner,
        idempotency.key,
        idempotency.fingerprint.as_bytes().as_slice(),
        job.uuid()
    );
    Ok(remembered.execute(db).await?.rows_affected() > 0)
}

/// Deletes the oldest expired keys, at most 10,000. Returns how many.
///
/// # Errors
/// Postgres is away.
pub async fn forget_keys(db: &PgPool) -> Result<u64, QueueError> {
    let forgotten = sqlx::query!(
        "delete from idempotency_keys where (owner, key) in (
             select owner, key from idempotency_keys where created_at < now() - make_interval(hours => $1)
             order by created_at limit 10000 for update skip locked)",
        KEPT_HOURS
    );
    Ok(forgotten.execute(db).await?.rows_affected())
}
