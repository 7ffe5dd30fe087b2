use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::keys::Scope;

use super::{ImageBody, digest, own_image};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// What is known of an image: type, bytes, pixels.
#[utoipa::path(
    get, path = "/v1/images/{sha256}", operation_id = "get_image", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 200, description = "It is there", body = super::ImageBody),
        NotFound,
    ),
)]
pub(crate) async fn get_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let image = own_image(&ctx, &caller, digest(&request)?).await?;
    Ok(HttpResponse::Ok().json(ImageBody::from(image)))
}
