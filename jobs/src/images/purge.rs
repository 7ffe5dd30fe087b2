use sqlx::PgPool;

use super::{CollectError, object_key};
use crate::{Sha256Digest, object_store::ObjectStore};

/// Result of [`purge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeOutcome {
    Done,
    /// A job of this image waits or runs.
    Needed,
    /// The owner has no such image, or it was purged before.
    NotFound,
}

/// Deletes an image of `owner` that no live job needs. Its finished jobs keep their results and cannot be retried. `actor` is the
/// name for the audit; the database's login if `None`.
///
/// The row is marked first. A concurrent submit of the image is refused and uploads the image anew. An object that cannot be
/// deleted now is an orphan, which [`crate::orphans::sweep`] deletes.
///
/// # Errors
/// Postgres or the store is away.
pub async fn purge(
    db: &PgPool,
    store: &ObjectStore,
    owner: &str,
    sha256: Sha256Digest,
    actor: Option<&str>,
) -> Result<PurgeOutcome, CollectError> {
    let purged = sqlx::query!(
        r#"select case outcome when 'purged'
                  then audited('delete_image', 'sha256:' || encode($2, 'hex'), jsonb_build_object('owner', $1::text), outcome, $3)
                  else outcome end as "outcome!", upload
           from purge_image($1, $2)"#,
        owner,
        sha256.as_bytes().as_slice(),
        actor
    );
    let purged = purged.fetch_one(db).await?;
    match (purged.outcome.as_str(), purged.upload) {
        ("purged", Some(upload)) => {
            store.delete(&object_key(owner, sha256, upload)).await?;
            Ok(PurgeOutcome::Done)
        }
        ("needed", _) => Ok(PurgeOutcome::Needed),
        _ => Ok(PurgeOutcome::NotFound),
    }
}
