//! Sweeping up objects that no row names: left by processes that died between the upload and the commit, and by uploads
//! of the same bytes that raced.

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

use super::{CollectError, PREFIX, parse_object_key};
use crate::{Sha256Digest, object_store::ObjectStore};

/// Objects of one page of the bucket.
const PAGE: i32 = 1000;

/// Looks through the next page of the bucket for objects older than `grace_seconds` that no row names, and deletes them.
/// One process at a time moves on, `pause_seconds` after the last page; `None`: not due, or another's turn.
///
/// `grace_seconds` has to be longer than any submit can take from its upload to its commit.
///
/// # Errors
/// Postgres or the store is away.
pub async fn sweep(
    db: &PgPool,
    store: &ObjectStore,
    grace_seconds: f64,
    pause_seconds: f64,
) -> Result<Option<u64>, CollectError> {
    let turn = sqlx::query!(
        "update orphan_sweep set swept_at = now() where swept_at < now() - make_interval(secs => $1)
         returning after_key, now() as \"now!\"",
        pause_seconds
    );
    let Some(turn) = turn.fetch_optional(db).await? else {
        return Ok(None);
    };
    let page = store.list(PREFIX, &turn.after_key, PAGE).await?;
    let old: Vec<_> = page
        .iter()
        .filter(|object| (turn.now - object.modified_at).as_seconds_f64() > grace_seconds)
        .filter_map(|object| Some((object, parse_object_key(&object.key)?)))
        .collect();
    let named = named(db, old.iter().map(|(_, name)| name)).await?;
    let mut swept = 0;
    for (object, name) in &old {
        if !named.contains(name) {
            store.delete(&object.key).await?;
            tracing::info!(
                object.key = object.key,
                "deleted an object that no image names"
            );
            swept += 1;
        }
    }
    let last = (page.len() == PAGE as usize).then(|| page.last()).flatten();
    sqlx::query!(
        "update orphan_sweep set after_key = $1, passes = passes + case when $1 = '' then 1 else 0 end",
        last.map_or("", |object| object.key.as_str())
    )
    .execute(db)
    .await?;
    Ok(Some(swept))
}

/// Owner, digest and upload: what a key and a row have in common.
pub(super) type Name = (String, Sha256Digest, Uuid);

/// Those that rows name.
async fn named(
    db: &PgPool,
    names: impl Iterator<Item = &Name>,
) -> Result<HashSet<Name>, sqlx::Error> {
    let (mut owners, mut digests, mut uploads) = (vec![], vec![], vec![]);
    for (owner, sha256, upload) in names {
        owners.push(owner.clone());
        digests.push(sha256.as_bytes().to_vec());
        uploads.push(*upload);
    }
    let rows = sqlx::query!(
        "select i.owner, i.sha256, i.upload
         from unnest($1::text[], $2::bytea[], $3::uuid[]) as object(owner, sha256, upload)
         join images i on i.owner = object.owner and i.sha256 = object.sha256 and i.upload = object.upload
         where i.purged_at is null",
        &owners,
        &digests,
        &uploads
    );
    let rows = rows.fetch_all(db).await?.into_iter();
    rows.map(|row| {
        let sha256 = Sha256Digest::try_from(row.sha256.as_slice());
        let sha256 = sha256.map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok((row.owner, sha256, row.upload))
    })
    .collect()
}
