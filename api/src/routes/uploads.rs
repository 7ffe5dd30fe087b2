//! `/v1/uploads`: uploads straight into the object store, by signed URLs.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, post,
    web::{Data, Payload},
};
use decode::Format;
use jobs::{ProblemCode, Sha256Digest, images, keys::Scope};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use wire::{Object, PresignedPut, Upload, UploadRequest};

use crate::{
    config::Limits,
    ctx::Ctx,
    http::{error::ApiError, headers::refuse_content_encoding, json::read_json},
    limits::keyring::Caller,
    openapi::{InvalidParams, InvalidRequest, SlowBody},
    submit::{spool::too_large, stored_images},
};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(create_upload);
}

/// Signs the upload of one file straight into the object store. Its digest, length and type must be known.
///
/// The store refuses other bytes. After the upload, jobs may name the digest. The first job that does checks the image and may
/// refuse it. Name the image within half an hour; an image that no job names is deleted.
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
    if stored_images::find(&ctx, &caller, sha256).await?.is_some() {
        return Ok(HttpResponse::Ok().json(upload_body(sha256, None)));
    }
    // The reservation is given back: a signed upload may never come. It takes its room when it is first named.
    drop(ctx.quotas.reserve_bytes(&caller, upload.bytes).await?);
    let key = images::object_key(&caller.owner, sha256, Uuid::now_v7());
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
