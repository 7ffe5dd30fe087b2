//! `/v1/uploads`: uploads straight into the object store, by signed URLs.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, post,
    web::{Data, Payload},
};
use decode::Format;
use jobs::{
    ProblemCode, Sha256Digest,
    images::{self, Image, SignedUpload, UploadTerms},
    keys::Scope,
};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use wire::{Object, PresignedPut, Upload, UploadRequest};

use crate::{
    config::Limits,
    ctx::Ctx,
    http::{error::ApiError, headers::refuse_content_encoding, json::read_json},
    limits::{keyring::Caller, quotas::Reservation},
    openapi::{InvalidParams, InvalidRequest, SlowBody},
    submit::{
        spool::too_large,
        stored_images::{LookUp, look_up},
    },
};

/// A signed upload lapses after minutes at least: a client with too many gains nothing from a quick retry.
const RETRY_AFTER_SECONDS: u32 = 60;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(create_upload);
}

/// Signs the upload of one file straight into the object store. Its digest, length and type must be known.
///
/// The store refuses other bytes. After the upload, jobs may name the digest. The first job that does checks the image and may
/// refuse it. Name the image within half an hour; an image that no job names is deleted. A signed upload counts against the
/// stored bytes of its owner. A repeated request prolongs it and needs no more room.
#[utoipa::path(
    operation_id = "create_upload", tag = "images",
    request_body(content = UploadRequest),
    responses(
        (status = 200, description = "It is stored already: `stored` is true", body = Upload),
        (status = 201, description = "Send the file with `method`, `url` and `headers`", body = Upload),
        InvalidRequest,
        SlowBody,
        (status = 413, description = "image_too_large", body = wire::Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = wire::Problem, content_type = "application/problem+json"),
        InvalidParams,
        (status = 429, description = "rate_limited, quota_exceeded: too many bytes stored; see `Retry-After`", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/uploads")]
async fn create_upload(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    refuse_content_encoding(&request)?;
    let limits = &ctx.config.limits;
    let upload: UploadRequest = read_json(body, limits).await?;
    let sha256 = upload.sha256.parse::<Sha256Digest>();
    let sha256 = sha256
        .map_err(|error| ApiError::invalid_field("/sha256", "invalid", &error.to_string()))?;
    check(&upload, limits)?;
    let name = match look_up(&ctx, &caller, sha256).await? {
        LookUp::Stored(_) => return Ok(HttpResponse::Ok().json(upload_body(sha256, None))),
        LookUp::Damaged(image) => replace(&ctx, &caller, &image, upload.bytes).await?,
        LookUp::OtherBytes | LookUp::Unknown => record(&ctx, &caller, sha256, upload.bytes).await?,
    };
    let key = images::object_key(&caller.owner, sha256, name);
    let valid_for = Duration::from_secs(ctx.config.limits.upload_seconds);
    let (bytes, content_type) = (upload.bytes, &upload.content_type);
    let put = ctx
        .store
        .presign_put(&key, sha256, bytes, content_type, valid_for)
        .await?;
    let put = PresignedPut {
        method: "PUT".into(),
        url: put.url,
        headers: put.headers,
        expires_at: put.expires_at,
    };
    Ok(HttpResponse::Created().json(upload_body(sha256, Some(put))))
}

fn terms(ctx: &Ctx) -> UploadTerms {
    let limits = &ctx.config.limits;
    UploadTerms {
        url_seconds: limits.upload_seconds as f64,
        name_seconds: (ctx.config.retention.image_grace_seconds / 2.0).max(0.0),
        uploads_max: limits.signed_uploads_max.into(),
    }
}

/// Records the upload, which takes its room from now on. Returns its name.
///
/// # Errors
/// `quota_exceeded`: the owner has no room for it, or too many signed uploads.
async fn record(
    ctx: &Ctx,
    caller: &Caller,
    sha256: Sha256Digest,
    bytes: i64,
) -> Result<Uuid, ApiError> {
    let (owner, terms) = (&caller.owner, terms(ctx));
    let renewed = images::renew_signed_upload(&ctx.db, owner, sha256, bytes, terms);
    if let Some(upload) = renewed.await? {
        return Ok(upload);
    }
    let reservation = ctx.quotas.reserve_bytes(caller, bytes).await?;
    let upload = Uuid::now_v7();
    let signed = SignedUpload { upload, bytes };
    if !images::record_signed_upload(&ctx.db, owner, sha256, signed, terms).await? {
        let detail = format!(
            "{} signed uploads of yours are not named by a job yet: name them, or wait until they lapse",
            terms.uploads_max
        );
        let error = ApiError::new(ProblemCode::QuotaExceeded, detail);
        return Err(error.retry_after(RETRY_AFTER_SECONDS));
    }
    reservation.into_iter().for_each(Reservation::commit);
    Ok(upload)
}

/// Records an upload that puts the lost object of an image back: jobs that wait for the image find it there.
async fn replace(ctx: &Ctx, caller: &Caller, image: &Image, bytes: i64) -> Result<Uuid, ApiError> {
    if bytes != image.bytes {
        let detail = format!("the image with this digest has {} bytes", image.bytes);
        return Err(ApiError::invalid_field("/bytes", "invalid", &detail));
    }
    images::record_replacement(&ctx.db, &caller.owner, image, terms(ctx)).await?;
    Ok(image.upload)
}

fn upload_body(image: Sha256Digest, put: Option<PresignedPut>) -> Upload {
    Upload {
        object: Object::Upload,
        image: image.to_string(),
        stored: put.is_none(),
        put,
    }
}

fn check(upload: &UploadRequest, limits: &Limits) -> Result<(), ApiError> {
    if upload.bytes < 1 {
        return Err(ApiError::invalid_field(
            "/bytes",
            "invalid",
            "must be at least 1",
        ));
    }
    if upload.bytes > limits.image_bytes_max as i64 {
        return Err(too_large(limits));
    }
    let types = &limits.image_types;
    let declared = Format::of_content_type(&upload.content_type);
    if !declared.is_some_and(|format| types.contains(&format)) {
        let names: Vec<_> = types.iter().map(|format| format.name()).collect();
        let detail = format!(
            "images of these types are accepted here: {}",
            names.join(", ")
        );
        return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
    }
    Ok(())
}
