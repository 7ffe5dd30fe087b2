use sqlx::PgPool;
use uuid::Uuid;

use super::{CollectError, object_key, uploads};
use crate::{Sha256Digest, object_store::ObjectStore};

/// Most objects that one look at the bucket finds.
const PAGE: i32 = 1000;
/// Most looks: submits of the image that are under way make new objects meanwhile.
const LOOKS_MAX: usize = 10;

/// Result of [`purge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeOutcome {
    Done,
    /// A job of this image waits or runs.
    Needed,
    /// The owner has no such image and no signed upload of it, or it was purged before.
    NotFound,
}

/// Deletes an image of `owner` that no live job needs, with every object of its digest. Its finished jobs keep their results
/// and cannot be retried. Signed uploads of the image end: no later request can name them. `actor` is the name for the audit; the
/// database's login if `None`.
///
/// The rows are marked first. A concurrent submit of the image is refused and uploads the image anew. An object that cannot be
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
                  else outcome end as "outcome!", uploads
           from purge_image($1, $2)"#,
        owner,
        sha256.as_bytes().as_slice(),
        actor
    );
    let purged = purged.fetch_one(db).await?;
    let outcome = match purged.outcome.as_str() {
        "needed" => return Ok(PurgeOutcome::Needed),
        "purged" => PurgeOutcome::Done,
        // An earlier delete may have stopped between the rows and the objects.
        _ => PurgeOutcome::NotFound,
    };
    delete_objects(store, owner, sha256, &purged.uploads.unwrap_or_default()).await?;
    delete_unnamed_objects(db, store, owner, sha256).await?;
    Ok(outcome)
}

/// Deletes the objects of uploads that no row names: of submits that are under way, or that lost a race.
async fn delete_unnamed_objects(
    db: &PgPool,
    store: &ObjectStore,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<(), CollectError> {
    for _ in 0..LOOKS_MAX {
        let found = uploads(store, owner, sha256, PAGE).await?;
        if found.is_empty() {
            break;
        }
        let gone = sqlx::query_scalar!(
            r#"select void_uploads($1, $2, $3) as "gone!""#,
            owner,
            sha256.as_bytes().as_slice(),
            &found
        );
        let gone = gone.fetch_one(db).await?;
        delete_objects(store, owner, sha256, &gone).await?;
        if found.len() < PAGE as usize || gone.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn delete_objects(
    store: &ObjectStore,
    owner: &str,
    sha256: Sha256Digest,
    uploads: &[Uuid],
) -> Result<(), CollectError> {
    for upload in uploads {
        store.delete(&object_key(owner, sha256, *upload)).await?;
    }
    Ok(())
}
