//! Collects images that no job needs any more. The row is marked first; only then is the object deleted.

use super::object_key;
use crate::{
    Sha256Digest,
    db::{Db, answered},
    object_store::{ObjectStore, StoreError},
};

/// Why a collection stopped; the next one finds the rest.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("Postgres: {0}")]
    Db(#[from] sqlx::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Marks some images as purged that no job has needed for `grace_seconds`, and deletes their objects. Returns how many.
///
/// A concurrent submit of equal bytes either keeps the image, or is refused and uploads the image anew under another key: see
/// `queue/enqueue.sql`. An object that cannot be deleted now is an orphan, which [`crate::orphans::sweep`] deletes.
///
/// # Errors
/// Postgres or the store is away.
pub async fn collect(
    db: &Db,
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
         update images i set purged_at = now(), unused_since = null, reported_at = null, checked_at = null, damaged_at = null
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
