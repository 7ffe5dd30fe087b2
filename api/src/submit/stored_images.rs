//! Images that a caller names by their digest: registered ones, and signed uploads that are still only in the bucket.

use std::io::Cursor;

use chrono::{TimeDelta, Utc};
use jobs::{
    Sha256Digest,
    images::{self, Image, StoredImage},
    object_store::{StoreError, StoredObject},
};
use uuid::Uuid;

use super::{sniff::sniff, spool::too_large};
use crate::{
    ctx::Ctx,
    http::error::ApiError,
    limits::{keyring::Caller, quotas::Reservation},
};

/// The header of most images is shorter.
const HEAD_BYTES: u64 = 64 << 10;

/// The image of the caller's owner with this digest.
///
/// A signed upload is checked and registered when it is first named.
///
/// # Errors
/// A signed upload is no image that a worker could take, or its owner has no room for it.
pub(crate) async fn find(
    ctx: &Ctx,
    caller: &Caller,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    let owner = &caller.owner;
    if let Some(stored) = find_registered(ctx, owner, sha256).await? {
        return Ok(Some(stored));
    }
    // The sweep deletes unregistered objects after the grace period. Half of it leaves time to register.
    let seconds = ctx.config.retention.image_grace_seconds / 2.0;
    let oldest = Utc::now() - TimeDelta::milliseconds((seconds * 1000.0) as i64);
    let uploads = images::uploads(&ctx.store, owner, sha256).await?;
    let fresh = uploads
        .into_iter()
        .filter(|(_, object)| object.modified_at > oldest);
    let Some((upload, object)) = first_true_upload(ctx, sha256, fresh).await? else {
        return Ok(None);
    };
    let limits = &ctx.config.limits;
    if object.bytes > limits.image_bytes_max as i64 {
        return Err(too_large(limits));
    }
    let head = ctx.store.get_beginning(&object.key, HEAD_BYTES).await;
    let header = match head {
        Err(StoreError::Missing(_)) => return Ok(None),
        head => sniff(Cursor::new(&head?[..]), limits),
    };
    let header = match header {
        // The header may be longer than these bytes: the whole image decides.
        Err(error) if object.bytes as u64 > HEAD_BYTES => {
            drop(error);
            let whole = ctx.store.get(&object.key, sha256).await?;
            sniff(Cursor::new(&whole[..]), limits)?
        }
        header => header?,
    };
    let image = Image {
        sha256,
        upload,
        content_type: header.format.content_type().to_owned(),
        bytes: object.bytes,
        width: header.width.cast_signed(),
        height: header.height.cast_signed(),
    };
    let reservation = ctx.quotas.reserve_bytes(caller, image.bytes).await?;
    // False if another request registered the image just now: that request took the room.
    if images::register(&ctx.db, owner, &image).await? {
        reservation.into_iter().for_each(Reservation::commit);
    }
    find_registered(ctx, owner, sha256).await
}

/// The first upload whose bytes have the digest. Where the store does not check the bytes of signed uploads, this reads them.
/// An upload that is too large is not read: the caller refuses it.
async fn first_true_upload(
    ctx: &Ctx,
    sha256: Sha256Digest,
    uploads: impl Iterator<Item = (Uuid, StoredObject)>,
) -> Result<Option<(Uuid, StoredObject)>, ApiError> {
    let bytes_max = ctx.config.limits.image_bytes_max as i64;
    for (upload, object) in uploads {
        if ctx.store.verifies_checksums() || object.bytes > bytes_max {
            return Ok(Some((upload, object)));
        }
        match ctx.store.hash(&object.key).await {
            Ok(stored) if stored == sha256 => return Ok(Some((upload, object))),
            Ok(_) => tracing::warn!(
                object.key,
                "a signed upload has other bytes than it was signed for"
            ),
            Err(StoreError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The registered image of an owner with this digest.
pub(crate) async fn find_registered(
    ctx: &Ctx,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    Ok(ctx.images.find(owner, sha256).await?)
}
