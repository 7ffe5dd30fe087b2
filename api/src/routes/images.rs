//! `/v1/images`: images apart from jobs.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header,
    post,
    web::{Data, Payload},
};
use jobs::{
    ProblemCode, Sha256Digest,
    images::{self, Image, PurgeOutcome},
    keys::Scope,
    queue::QueueError,
};
use utoipa_actix_web::service_config::ServiceConfig;
use wire::Object;

use crate::{
    ctx::Ctx,
    http::error::ApiError,
    limits::{keyring::Caller, quotas::Reservation},
    openapi::{InvalidRequest, NotFound, SlowBody},
    submit::{forms, image_input::ImageInput, spool::receive, stored_images},
};

/// How long a signed URL is valid. A download must begin within this time.
const CONTENT_URL_VALID_FOR: Duration = Duration::from_mins(1);

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(create_image)
        .service(get_image)
        .service(get_image_content)
        .service(delete_image);
}

fn image_body(image: Image) -> wire::Image {
    wire::Image {
        object: Object::Image,
        image: image.sha256.to_string(),
        content_type: image.content_type,
        bytes: image.bytes,
        width: image.width,
        height: image.height,
    }
}

/// The digest in a path; 404 if it cannot be one.
fn digest(request: &HttpRequest) -> Result<Sha256Digest, ApiError> {
    let digest = request.match_info().query("sha256");
    digest.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own image; 404 if there is none. Its object may be damaged.
async fn own_image(ctx: &Ctx, caller: &Caller, sha256: Sha256Digest) -> Result<Image, ApiError> {
    if let Some(stored) = stored_images::find_registered(ctx, &caller.owner, sha256).await? {
        return Ok(stored.image);
    }
    let stored = match stored_images::find(ctx, caller, sha256).await {
        Ok(stored) => stored,
        // A signed upload that is no image.
        Err(error) => error.into_client_problem().map(|_| None)?,
    };
    let stored = stored.ok_or_else(ApiError::not_found)?;
    Ok(stored.image)
}

/// Stores an image for later jobs. An image that no job names is deleted after a while.
#[utoipa::path(
    operation_id = "create_image", tag = "images",
    request_body(description = "The bytes", content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, description = "It is stored already", body = wire::Image),
        (status = 201, description = "Stored", body = wire::Image, headers(("Location" = String))),
        InvalidRequest,
        SlowBody,
        (status = 413, description = "image_too_large", body = wire::Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = wire::Problem, content_type = "application/problem+json"),
        (status = 422, description = "image_undecodable, image_too_many_pixels", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/images")]
async fn create_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    mut body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    forms::check_headers(&request, &ctx)?;
    let limits = &ctx.config.limits;
    let announced = forms::announced_bytes(&request);
    let clock = forms::start_body(&ctx, &caller, &request).await?;
    let upload = receive(&mut body, &clock, announced, limits).await?;
    let sha256 = upload.image.sha256;
    if let Some(stored) = stored_images::find_registered(&ctx, &caller.owner, sha256).await? {
        if stored.suspicion.is_some() {
            upload.replace(&ctx, &caller, &stored.image).await?;
        }
        return Ok(HttpResponse::Ok().json(image_body(stored.image)));
    }
    let (image, reservation) = ImageInput::Uploaded(upload).store(&ctx, &caller).await?;
    if !images::register(&ctx.db, &caller.owner, &image).await? {
        // Another request stored the image just now, or deleted it while these bytes were under way.
        let stored = stored_images::find_registered(&ctx, &caller.owner, sha256).await?;
        let stored = stored.ok_or(QueueError::ImagePurged)?;
        return Ok(HttpResponse::Ok().json(image_body(stored.image)));
    }
    reservation.into_iter().for_each(Reservation::commit);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/images/{sha256}")))
        .json(image_body(image)))
}

/// Type and size of an image.
#[utoipa::path(
    operation_id = "get_image", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 200, description = "The image", body = wire::Image),
        NotFound,
    ),
)]
#[get("/v1/images/{sha256}")]
async fn get_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let image = own_image(&ctx, &caller, digest(&request)?).await?;
    Ok(HttpResponse::Ok().json(image_body(image)))
}

/// The bytes of an image: redirects to a URL that is valid for a minute. Browsers save it as a file.
#[utoipa::path(
    operation_id = "get_image_content", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 303, description = "The URL of the bytes", headers(("Location" = String))),
        NotFound,
        (status = 410, description = "data_purged: the object store has lost the image; upload it again", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/images/{sha256}/content")]
async fn get_image_content(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let image = own_image(&ctx, &caller, digest(&request)?).await?;
    let key = images::object_key(&caller.owner, image.sha256, image.upload);
    if !ctx.store.exists(&key).await? {
        images::check(&ctx.db, &ctx.store, &caller.owner, &image).await?;
        let detail = "the object store has lost this image: upload it again";
        return Err(ApiError::new(ProblemCode::DataPurged, detail));
    }
    let kind = image.content_type.rsplit('/').next().unwrap_or_default();
    let file_name = format!("{}.{kind}", image.sha256.hex());
    let url = ctx
        .store
        .presign_get(&key, &file_name, CONTENT_URL_VALID_FOR)
        .await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::LOCATION, url))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}

/// Deletes an image that no unended job needs. Finished jobs keep their results but cannot be retried.
///
/// All uploads of the image end, signed ones too: none of them brings the image back.
#[utoipa::path(
    operation_id = "delete_image", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
        (status = 409, description = "job_not_finished: a job needs it", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/v1/images/{sha256}")]
async fn delete_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let sha256 = digest(&request)?;
    let actor = caller.audit_name();
    match images::purge(&ctx.db, &ctx.store, &caller.owner, sha256, Some(&actor)).await? {
        PurgeOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        PurgeOutcome::Needed => {
            let detail = "a job over this image has not ended: cancel it, then delete the image";
            Err(ApiError::new(ProblemCode::JobNotFinished, detail).retry_after(1))
        }
        PurgeOutcome::NotFound => Err(ApiError::not_found()),
    }
}
