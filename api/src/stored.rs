//! Images that a caller names by their digest: known ones, and those that came straight into the bucket.

use std::io::Cursor;

use chrono::{TimeDelta, Utc};
use jobs::{
    Sha256Digest,
    images::{self, Image, StoredImage},
    object_store::StoreError,
};

use crate::{
    auth::Caller, ctx::Ctx, error::ApiError, quota::Reserved, sniff::sniff, spool::too_large,
};

/// Headers of most images end within.
const BEGINNING_BYTES: u64 = 64 << 10;

/// The image that the caller's owner has stored under this digest. One that was put by a presigned upload is looked at now, for
/// the first time, and written down if its owner has room for it; it may turn out to be none.
pub(crate) async fn find(
    ctx: &Ctx,
    caller: &Caller,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    let owner = &caller.owner;
    if let Some(stored) = known(ctx, owner, sha256).await? {
        return Ok(Some(stored));
    }
    // Past half of the grace the sweep may be on its way to delete it as an orphan.
    let seconds = ctx.config.retention.image_grace_seconds / 2.0;
    let youngest = Utc::now() - TimeDelta::milliseconds((seconds * 1000.0) as i64);
    let uploads = images::uploads(&ctx.store, owner, sha256).await?;
    let mut fresh = uploads
        .into_iter()
        .filter(|(_, object)| object.modified_at > youngest);
    let Some((upload, object)) = fresh.next() else {
        return Ok(None);
    };
    let limits = &ctx.config.limits;
    if object.bytes > limits.image_bytes_max as i64 {
        return Err(too_large(limits));
    }
    let beginning = ctx.store.get_beginning(&object.key, BEGINNING_BYTES).await;
    let sniffed = match beginning {
        Err(StoreError::Missing(_)) => return Ok(None),
        beginning => sniff(Cursor::new(&beginning?[..]), limits),
    };
    let sniffed = match sniffed {
        // Its header may be longer than that: all of it decides.
        Err(error) if object.bytes as u64 > BEGINNING_BYTES => {
            drop(error);
            let whole = ctx.store.get(&object.key, sha256).await?;
            sniff(Cursor::new(&whole[..]), limits)?
        }
        sniffed => sniffed?,
    };
    let image = Image {
        sha256,
        upload,
        content_type: sniffed.content_type.to_owned(),
        bytes: object.bytes,
        width: sniffed.width.cast_signed(),
        height: sniffed.height.cast_signed(),
    };
    let room = ctx.quotas.store(caller, image.bytes).await?;
    // Whoever else looked at it just now has written the same, and took the room.
    if images::register(&ctx.db, owner, &image).await? {
        room.into_iter().for_each(Reserved::landed);
    }
    known(ctx, owner, sha256).await
}

/// The same of those that are written down: what each submit asks.
pub(crate) async fn known(
    ctx: &Ctx,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    Ok(ctx.images.find(owner, sha256).await?)
}
