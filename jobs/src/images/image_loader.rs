use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{Image, StoredImage, Suspicion};
use crate::{
    Sha256Digest,
    batch_loader::{BatchLoad, BatchLoader, Loaded},
    db::StatementPool,
};

/// The images that an owner has stored under these digests, as [`find_all`] finds them.
///
/// # Errors
/// Postgres is away.
pub async fn find_many(
    db: &PgPool,
    owner: &str,
    digests: &[Sha256Digest],
) -> Result<HashMap<Sha256Digest, StoredImage>, sqlx::Error> {
    let keys: Vec<_> = digests
        .iter()
        .map(|&sha256| (owner.to_owned(), sha256))
        .collect();
    let found = find_all(db, &keys).await?.into_iter();
    Ok(found
        .map(|((_, sha256), stored)| (sha256, stored))
        .collect())
}

/// Finds images; concurrent look-ups share a statement. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageLoader(BatchLoader<ImageLoad>);

#[derive(Debug)]
struct ImageLoad;

impl BatchLoad for ImageLoad {
    type Key = (String, Sha256Digest);
    type Value = StoredImage;
    type Error = sqlx::Error;

    const TASK: &'static str = "image loader";

    async fn load(db: &mut PgConnection, keys: &[Self::Key]) -> Result<Loaded<Self>, sqlx::Error> {
        find_all(db, keys).await
    }
}

impl ImageLoader {
    /// `db`: a pool for look-ups [by keys](StatementPool::by_keys).
    pub fn start(db: StatementPool) -> Self {
        Self(BatchLoader::start(db))
    }

    /// The image that an owner has stored under this digest, as [`find_all`] finds it.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(
        &self,
        owner: &str,
        sha256: Sha256Digest,
    ) -> Result<Option<StoredImage>, sqlx::Error> {
        self.0.load((owner.to_owned(), sha256)).await
    }
}

/// Finds stored images by owner and digest. Images that are not stored are left out. If no job needs an image any more, its
/// grace begins anew, so that it still exists when the caller's submit is committed.
///
/// Rows are locked in the order of owner and digest, as everywhere.
///
/// # Errors
/// Postgres is away.
pub async fn find_all(
    db: impl PgExecutor<'_>,
    images: &[(String, Sha256Digest)],
) -> Result<Vec<((String, Sha256Digest), StoredImage)>, sqlx::Error> {
    let owners: Vec<_> = images.iter().map(|(owner, _)| owner.as_str()).collect();
    let digests: Vec<_> = images
        .iter()
        .map(|(_, sha256)| sha256.as_bytes().as_slice())
        .collect();
    let rows = sqlx::query!(
        "with unused as materialized (
             select i.owner, i.sha256
             from (select owner, sha256 from unnest($1::text[], $2::bytea[]) as a(owner, sha256) order by owner, sha256) asked
             cross join lateral (
                 select owner, sha256 from images i
                 where i.owner = asked.owner and i.sha256 = asked.sha256 and i.purged_at is null and i.unused_since is not null
                 for no key update
             ) i
         ),
         renewed as (
             update images i set unused_since = now() from unused u where i.owner = u.owner and i.sha256 = u.sha256
         )
         select i.owner, i.sha256, i.upload, i.content_type, i.bytes, i.width, i.height, i.recent_jobs,
                i.reported_at is not null as \"is_reported!\", i.damaged_at is not null as \"is_damaged!\"
         from unnest($1::text[], $2::bytea[]) as asked(owner, sha256)
         cross join lateral (
             select * from images i where i.owner = asked.owner and i.sha256 = asked.sha256 and i.purged_at is null offset 0
         ) i",
        &owners as &[&str],
        &digests as &[&[u8]]
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    rows.map(|row| {
        let sha256 = Sha256Digest::try_from(row.sha256.as_slice());
        let sha256 = sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let stored = StoredImage {
            image: Image {
                sha256,
                upload: row.upload,
                content_type: row.content_type,
                bytes: row.bytes,
                width: row.width,
                height: row.height,
            },
            recent_jobs: row.recent_jobs.into_iter().map(Into::into).collect(),
            suspicion: match (row.is_damaged, row.is_reported) {
                (true, _) => Some(Suspicion::Damaged),
                (_, true) => Some(Suspicion::Reported),
                _ => None,
            },
        };
        Ok(((row.owner, sha256), stored))
    })
    .collect()
}
