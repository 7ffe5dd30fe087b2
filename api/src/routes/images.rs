//! `/v1/images`: images apart from jobs.

mod create_image;
mod delete_image;
mod get_image;
mod get_image_content;

use actix_web::HttpRequest;
use jobs::{Sha256Digest, images::Image};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::{
    create_image::__path_create_image, delete_image::__path_delete_image,
    get_image::__path_get_image, get_image_content::__path_get_image_content,
};
pub(super) use self::{
    create_image::create_image, delete_image::delete_image, get_image::get_image,
    get_image_content::get_image_content,
};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, stored};

/// What is known of an image that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageBody {
    #[schema(example = "image")]
    object: &'static str,
    /// What a job names it by.
    #[schema(value_type = String, example = "sha256:4f…")]
    image: Sha256Digest,
    /// As sniffed from the bytes.
    #[schema(example = "image/jpeg")]
    content_type: String,
    bytes: i64,
    /// Pixels, as the header says, before any EXIF rotation.
    width: i32,
    height: i32,
}

impl From<Image> for ImageBody {
    fn from(image: Image) -> Self {
        Self {
            object: "image",
            image: image.sha256,
            content_type: image.content_type,
            bytes: image.bytes,
            width: image.width,
            height: image.height,
        }
    }
}

/// The digest in a path; what cannot be one names nothing.
fn digest(request: &HttpRequest) -> Result<Sha256Digest, ApiError> {
    let digest = request.match_info().query("sha256");
    digest.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own image.
async fn own_image(ctx: &Ctx, caller: &Caller, sha256: Sha256Digest) -> Result<Image, ApiError> {
    let stored = match stored::find(ctx, caller, sha256).await {
        Ok(stored) => stored,
        // Something was put there that is no image, or that its owner has no room for.
        Err(error) => error.blamed_on_client().map(|_| None)?,
    };
    let stored = stored.ok_or_else(ApiError::not_found)?;
    Ok(stored.image)
}
