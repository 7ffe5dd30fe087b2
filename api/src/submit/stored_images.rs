//! Images that a caller names by their digest: registered ones, and signed uploads that no request has named yet.

use std::io::Cursor;

use jobs::{
    ProblemCode, Sha256Digest,
    images::{self, Image, SignedUpload, StoredImage, Suspicion},
    object_store::{InspectedObject, StoreError},
};

use super::{sniff::sniff, spool::too_large};
use crate::{ctx::Ctx, http::error::ApiError, limits::keyring::Caller};

/// The header of most images is shorter.
const HEAD_BYTES: usize = 64 << 10;

/// What is known of a digest.
#[derive(Debug)]
pub(crate) enum LookUp {
    Stored(StoredImage),
    /// The object store has lost the image, or returns other bytes.
    Damaged(Image),
    /// The store accepted other bytes for a signed upload.
    OtherBytes,
    Unknown,
}

/// The image of the caller's owner with this digest.
///
/// # Errors
/// As [`look_up`]. `not_found`: the object store has other bytes, or has lost the image.
pub(crate) async fn find(
    ctx: &Ctx,
    caller: &Caller,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    match look_up(ctx, caller, sha256).await? {
        LookUp::Stored(stored) => Ok(Some(stored)),
        LookUp::Unknown => Ok(None),
        LookUp::Damaged(_) => Err(absent(
            "lost",
            "the object store has lost this image: upload it again",
        )),
        LookUp::OtherBytes => Err(absent(
            "other_bytes",
            "the bytes that were uploaded do not have this digest: upload the image again",
        )),
    }
}

/// Looks for an image of the caller's owner.
///
/// A signed upload is checked and registered when a request first names it: its object is read once, because not every store
/// checks the digest.
///
/// # Errors
/// A signed upload is no image that a worker could take.
pub(crate) async fn look_up(
    ctx: &Ctx,
    caller: &Caller,
    sha256: Sha256Digest,
) -> Result<LookUp, ApiError> {
    let owner = &caller.owner;
    if let Some(stored) = find_registered(ctx, owner, sha256).await? {
        if stored.suspicion != Some(Suspicion::Damaged) {
            return Ok(LookUp::Stored(stored));
        }
        // An operator or a signed upload may have put the object back.
        let _slot = ctx.object_checks.acquire().await;
        let is_intact = images::check(&ctx.db, &ctx.store, owner, &stored.image).await?;
        return Ok(if is_intact {
            LookUp::Stored(stored)
        } else {
            LookUp::Damaged(stored.image)
        });
    }
    let mut found = LookUp::Unknown;
    for signed in images::signed_uploads(&ctx.db, owner, sha256).await? {
        match name(ctx, owner, sha256, signed).await? {
            LookUp::Unknown => {}
            LookUp::OtherBytes => found = LookUp::OtherBytes,
            stored => return Ok(stored),
        }
    }
    Ok(found)
}

/// Checks the object of a signed upload and registers its image. [`LookUp::Unknown`]: the object has not come, or the owner has
/// deleted the image meanwhile.
async fn name(
    ctx: &Ctx,
    owner: &str,
    sha256: Sha256Digest,
    signed: SignedUpload,
) -> Result<LookUp, ApiError> {
    let limits = &ctx.config.limits;
    let key = images::object_key(owner, sha256, signed.upload);
    if signed.bytes > limits.image_bytes_max as i64 {
        return Err(too_large(limits));
    }
    let _slot = ctx.object_checks.acquire().await;
    let inspected = ctx
        .store
        .inspect(&key, sha256, signed.bytes, HEAD_BYTES)
        .await;
    let InspectedObject { beginning, .. } = match inspected {
        Err(StoreError::Missing(_)) => return Ok(LookUp::Unknown),
        Err(StoreError::Corrupt(_)) => {
            tracing::warn!(
                object.key = key,
                "the object store accepted other bytes than the signed ones; deleting them"
            );
            // So that no request reads them again.
            ctx.store.delete(&key).await?;
            return Ok(LookUp::OtherBytes);
        }
        inspected => inspected?,
    };
    let header = match sniff(Cursor::new(&beginning[..]), limits) {
        // The header may be longer than these bytes: the whole image decides.
        Err(error) if signed.bytes > HEAD_BYTES as i64 => {
            drop(error);
            let whole = ctx.store.get(&key, sha256).await?;
            sniff(Cursor::new(&whole[..]), limits)?
        }
        header => header?,
    };
    let image = Image {
        sha256,
        upload: signed.upload,
        content_type: header.format.content_type().to_owned(),
        bytes: signed.bytes,
        width: header.width.cast_signed(),
        height: header.height.cast_signed(),
    };
    // False if another request registered the image just now, or deleted it.
    images::name_signed_upload(&ctx.db, owner, &image).await?;
    let stored = find_registered(ctx, owner, sha256).await?;
    Ok(stored.map_or(LookUp::Unknown, LookUp::Stored))
}

/// The registered image of an owner with this digest.
pub(crate) async fn find_registered(
    ctx: &Ctx,
    owner: &str,
    sha256: Sha256Digest,
) -> Result<Option<StoredImage>, ApiError> {
    Ok(ctx.images.find(owner, sha256).await?)
}

fn absent(code: &str, detail: &str) -> ApiError {
    ApiError::new(ProblemCode::NotFound, detail).with_error("/image/sha256", code, detail)
}
