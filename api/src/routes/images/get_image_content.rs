use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{images, keys::Scope};

use super::{digest, own_image};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// How long the URL is good for: to begin the download, not to end it.
const LIVES: Duration = Duration::from_mins(1);

/// The bytes of an image: sends you on to a URL that is good for a minute, and that browsers save as a file.
#[utoipa::path(
    get, path = "/v1/images/{sha256}/content", operation_id = "get_image_content", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 303, description = "There", headers(("Location" = String))),
        NotFound,
    ),
)]
pub(crate) async fn get_image_content(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let image = own_image(&ctx, &caller, digest(&request)?).await?;
    let key = images::object_key(&caller.owner, image.sha256, image.upload);
    let kind = image.content_type.rsplit('/').next().unwrap_or_default();
    let file_name = format!("{}.{kind}", image.sha256.hex());
    let url = ctx.store.presign_get(&key, &file_name, LIVES).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, url))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}
