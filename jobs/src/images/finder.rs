use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor, PgPool};

use super::{Image, Stored};
use crate::{
    Sha256Digest,
    db::Kept,
    together::{Found, Look, Together},
};

/// The image that an owner has already stored under this digest, if it is still there. One that no job needs any more
/// starts its grace anew, so that it is still there when the submit that asks is committed.
///
/// # Errors
/// Postgres is away.
pub async fn find(
    db: &PgPool,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Option<Stored>, sqlx::Error> {
    let found = find_on(db, &[(owner.to_owned(), sha256)]).await?;
    Ok(found.into_iter().next().map(|(_, stored)| stored))
}

/// Those of an owner's digests under which images are stored, as [`find`] has it.
///
/// # Errors
/// Postgres is away.
pub async fn find_many(
    db: &PgPool,
    owner: &str,
    digests: &[Sha256Digest],
) -> Result<HashMap<Sha256Digest, Image>, sqlx::Error> {
    let asked: Vec<_> = digests
        .iter()
        .map(|&sha256| (owner.to_owned(), sha256))
        .collect();
    let found = find_on(db, &asked).await?.into_iter();
    Ok(found
        .map(|((_, sha256), stored)| (sha256, stored.image))
        .collect())
}

/// Looks images up for all submits of the same moment; cheap to clone.
#[derive(Debug, Clone)]
pub struct Finder(Together<Images>);

#[derive(Debug)]
struct Images;

impl Look for Images {
    type Ask = (String, Sha256Digest);
    type Found = Stored;
    type Error = sqlx::Error;

    async fn look(db: &mut PgConnection, asks: &[Self::Ask]) -> Result<Found<Self>, sqlx::Error> {
        find_on(db, asks).await
    }
}

impl Finder {
    /// `db` reads [by keys](Kept::by_keys).
    pub fn start(db: Kept) -> Self {
        Self(Together::start(db))
    }

    /// As [`find`].
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn find(
        &self,
        owner: &str,
        sha256: Sha256Digest,
    ) -> Result<Option<Stored>, sqlx::Error> {
        self.0.find((owner.to_owned(), sha256)).await
    }
}

/// Each image with what is stored of it, if it is. Rows are locked in the order in which all others lock them.
async fn find_on(
    db: impl PgExecutor<'_>,
    images: &[(String, Sha256Digest)],
) -> Result<Vec<((String, Sha256Digest), Stored)>, sqlx::Error> {
    let owners: Vec<_> = images.iter().map(|(owner, _)| owner.as_str()).collect();
    let digests: Vec<_> = images
        .iter()
        .map(|(_, one)| one.as_bytes().as_slice())
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
         select i.owner, i.sha256, i.upload, i.content_type, i.bytes, i.width, i.height, i.recent_jobs
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
        let stored = Stored {
            image: Image {
                sha256,
                upload: row.upload,
                content_type: row.content_type,
                bytes: row.bytes,
                width: row.width,
                height: row.height,
            },
            recent_jobs: row.recent_jobs.into_iter().map(Into::into).collect(),
        };
        Ok(((row.owner, sha256), stored))
    })
    .collect()
}
