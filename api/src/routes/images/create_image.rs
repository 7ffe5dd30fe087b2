use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use jobs::{Problem, images, keys::Scope};

use super::ImageBody;
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    forms::{self, Given},
    openapi::{InvalidRequest, SlowBody},
    quota::Reserved,
    spool::{BodyClock, receive},
    stored,
};

/// Stores an image for jobs to come. One that no job ever names is deleted after a while.
#[utoipa::path(
    post, path = "/v1/images", operation_id = "create_image", tag = "images",
    request_body(description = "The bytes", content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, description = "It was there already", body = super::ImageBody),
        (status = 201, description = "Stored", body = super::ImageBody, headers(("Location" = String))),
        InvalidRequest,
        SlowBody,
        (status = 413, description = "image_too_large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "image_undecodable, image_too_many_pixels", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    mut body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    forms::refuse_by_headers(&request, &ctx)?;
    let limits = &ctx.config.limits;
    let expected = forms::expected_bytes(&request);
    let upload = receive(&mut body, &BodyClock::start(limits), expected, limits).await?;
    let sha256 = upload.image.sha256;
    if let Some(stored) = stored::known(&ctx, &caller.owner, sha256).await? {
        return Ok(HttpResponse::Ok().json(ImageBody::from(stored.image)));
    }
    let (image, room) = forms::put(&ctx, &caller, Given::Uploaded(upload)).await?;
    images::register(&ctx.db, &caller.owner, &image).await?;
    room.into_iter().for_each(Reserved::landed);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/images/{sha256}")))
        .json(ImageBody::from(image)))
}
