//! Collecting images that no job needs any more. The row says so first; only then does the object go.

use sqlx::PgPool;

use super::object_key;
use crate::{
    Sha256Digest,
    db::answered,
    object_store::{ObjectStore, StoreError},
};

/// Why collecting stopped; what is left is found the next time.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("Postgres: {0}")]
    Db(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Marks some images as purged that no job has needed for `grace_seconds`, and deletes their objects. Answers how many.
///
/// A submit of the same bytes that runs into this either keeps the image, or is refused and uploads it anew under another
/// name: see `queue/enqueue.sql`. An object that cannot be deleted now is an orphan, which [`crate::orphans::sweep`] finds.
///
/// # Errors
/// Postgres or the store is away.
pub async fn collect(
    db: &PgPool,
    store: &ObjectStore,
    grace_seconds: f64,
) -> Result<u64, CollectError> {
    let unneeded = sqlx::query!(
        "with unneeded as materialized (
             select i.owner, i.sha256 from images i
             where i.purged_at is null and i.jobs = 0 and i.unused_since < now() - make_interval(secs => $1)
               and not exists (select 1 from live_jobs j where j.owner = i.owner and j.image_sha256 = i.sha256)
             order by i.owner, i.sha256 limit 200 for no key update of i skip locked
         )
         update images i set purged_at = now(), unused_since = null
         from unneeded u where i.owner = u.owner and i.sha256 = u.sha256
         returning i.owner, i.sha256, i.upload",
        grace_seconds
    );
    let unneeded = answered(db, unneeded.fetch_all(db)).await?;
    let count = unneeded.len() as u64;
    for image in unneeded {
        let sha256 = Sha256Digest::try_from(image.sha256.as_slice());
        let sha256 = sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        store
            .delete(&object_key(&image.owner, sha256, image.upload))
            .await?;
    }
    Ok(count)
}
