//! The image of a submit: from its source into the object store.

use jobs::{ProblemCode, images};

use super::{image_url, job_request::ImageLocation, spool::Upload, stored_images};
use crate::{
    ctx::Ctx,
    http::error::ApiError,
    limits::{keyring::Caller, quotas::Reservation},
};

/// The image of a submit: new bytes, or an image that its owner has stored.
#[derive(Debug)]
pub(crate) enum ImageInput {
    Uploaded(Upload),
    Stored(images::StoredImage),
}

impl ImageInput {
    /// Gets the image from where the request says.
    ///
    /// # Errors
    /// The image is unknown, cannot be fetched, or is no image that a worker could take.
    pub async fn from_location(
        ctx: &Ctx,
        caller: &Caller,
        location: ImageLocation,
    ) -> Result<Self, ApiError> {
        match location {
            ImageLocation::Stored(sha256) => {
                let image = stored_images::find(ctx, caller, sha256).await?;
                image.map(Self::Stored).ok_or_else(unknown_image)
            }
            ImageLocation::Url(url) => Ok(Self::Uploaded(image_url::fetch(ctx, &url).await?)),
            ImageLocation::Inline(upload) => Ok(Self::Uploaded(upload)),
        }
    }

    pub fn image(&self) -> &images::Image {
        match self {
            Self::Uploaded(upload) => &upload.image,
            Self::Stored(stored) => &stored.image,
        }
    }

    /// Puts a new image into the object store. Commit the reservation once a row names the image.
    ///
    /// # Errors
    /// `quota_exceeded`: the owner has no room for it.
    pub async fn store(
        self,
        ctx: &Ctx,
        caller: &Caller,
    ) -> Result<(images::Image, Option<Reservation>), ApiError> {
        let upload = match self {
            Self::Stored(stored) => return Ok((stored.image, None)),
            Self::Uploaded(upload) => upload,
        };
        let image = &upload.image;
        let reservation = ctx.quotas.reserve_bytes(caller, image.bytes).await?;
        let key = images::object_key(&caller.owner, image.sha256, image.upload);
        ctx.store
            .put(&key, upload.body(), image.sha256, &image.content_type)
            .await?;
        Ok((upload.image, reservation))
    }
}

impl Upload {
    /// Puts the bytes of a stored image into the object store once more: the store has lost them, or has other bytes. The key
    /// stays, so that jobs that wait for the image find it.
    ///
    /// # Errors
    /// Postgres or the object store is away.
    pub async fn replace(
        &self,
        ctx: &Ctx,
        caller: &Caller,
        stored: &images::Image,
    ) -> Result<(), ApiError> {
        let key = images::object_key(&caller.owner, stored.sha256, stored.upload);
        ctx.store
            .put(&key, self.body(), stored.sha256, &stored.content_type)
            .await?;
        tracing::info!(object.key = key, "an upload replaced a damaged object");
        Ok(images::note_replaced(&ctx.db, &caller.owner, stored).await?)
    }
}

pub(crate) fn no_image() -> ApiError {
    ApiError::new(ProblemCode::InvalidRequest, "the request has no image").with_error(
        "/image",
        "missing",
        "give an image",
    )
}

pub(crate) fn unknown_image() -> ApiError {
    let detail = "no image of yours has this digest: upload it first";
    let error = ApiError::new(ProblemCode::NotFound, detail);
    error.with_error("/image/sha256", "unknown", "not uploaded, or deleted")
}
