use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{Problem, keys::Scope};

use super::{ImageBody, digest, own_image};
use crate::{auth::Caller, ctx::Ctx, error::ApiError};

/// What is known of an image: type, bytes, pixels.
#[utoipa::path(
    get, path = "/v1/images/{sha256}", operation_id = "get_image", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 200, description = "It is there", body = super::ImageBody),
        (status = 401, description = "unauthorized", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "service_unavailable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let image = own_image(&ctx, &caller.owner, digest(&request)?).await?;
    Ok(HttpResponse::Ok().json(ImageBody::from(image)))
}
