use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use chrono::{DateTime, Utc};
use jobs::{Problem, ProblemCode, Sha256Digest, images, keys::Scope, rfc3339::micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Caller,
    config::Limits,
    ctx::Ctx,
    error::ApiError,
    job_request::{self, invalid},
    openapi::{InvalidParams, InvalidRequest, SlowBody},
    spool::{BodyClock, too_large},
    stored,
};

/// What the client is about to put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadRequest {
    /// Of the whole file; 64 hex digits, with or without `sha256:` before them.
    #[schema(value_type = String, pattern = "^(sha256:)?[0-9a-fA-F]{64}$", example = "sha256:4f…")]
    sha256: Sha256Digest,
    #[schema(minimum = 1)]
    bytes: i64,
    /// `image/jpeg`
    content_type: String,
}

/// Where to put it; or that it is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadBody {
    #[schema(example = "upload")]
    object: &'static str,
    /// What a job names it by.
    #[schema(value_type = String, example = "sha256:4f…")]
    image: Sha256Digest,
    /// It is there already: nothing has to be sent.
    stored: bool,
    #[serde(flatten)]
    put: Option<Put>,
}

/// The one request that stores it.
#[derive(Debug, Serialize, ToSchema)]
struct Put {
    #[schema(example = "PUT")]
    method: &'static str,
    url: String,
    /// To be sent as they are.
    headers: BTreeMap<String, String>,
    /// Past it the URL is refused.
    #[serde(serialize_with = "micros")]
    expires_at: DateTime<Utc>,
}

/// Signs an upload straight into the object store, for one file whose digest, length and type are known.
///
/// The store refuses any other bytes. Afterwards a job may name the digest: with the first one that does, the image is looked
/// at, and refused if it is none. Name it within half an hour; what no job ever names is deleted.
#[utoipa::path(
    post, path = "/v1/uploads", operation_id = "create_upload", tag = "images",
    request_body(content = UploadRequest),
    responses(
        (status = 200, description = "It is there already: `stored` is true", body = UploadBody),
        (status = 201, description = "Send it as `method`, `url` and `headers` say", body = UploadBody),
        InvalidRequest,
        SlowBody,
        (status = 413, description = "image_too_large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = Problem, content_type = "application/problem+json"),
        InvalidParams,
        (status = 429, description = "rate_limited, quota_exceeded: too many bytes stored; see `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_upload(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    mut body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    crate::forms::refuse_encoded(&request)?;
    let limits = &ctx.config.limits;
    let asked = read(&mut body, limits).await?;
    check(&asked, limits)?;
    if stored::find(&ctx, &caller, asked.sha256).await?.is_some() {
        return Ok(HttpResponse::Ok().json(UploadBody::new(asked.sha256, None)));
    }
    // Room is only asked for: what is signed may never come, and takes its room when it is first named.
    drop(ctx.quotas.store(&caller, asked.bytes).await?);
    let key = images::object_key(&caller.owner, asked.sha256, Uuid::now_v7());
    let lives = Duration::from_secs(ctx.config.limits.upload_seconds);
    let expires_at = Utc::now() + lives;
    let (bytes, content_type) = (asked.bytes, &asked.content_type);
    let put = ctx
        .store
        .presign_put(&key, asked.sha256, bytes, content_type, lives)
        .await?;
    let put = Put {
        method: "PUT",
        url: put.url,
        headers: put.headers,
        expires_at,
    };
    Ok(HttpResponse::Created().json(UploadBody::new(asked.sha256, Some(put))))
}

impl UploadBody {
    fn new(image: Sha256Digest, put: Option<Put>) -> Self {
        Self {
            object: "upload",
            image,
            stored: put.is_none(),
            put,
        }
    }
}

async fn read(body: &mut Payload, limits: &Limits) -> Result<UploadRequest, ApiError> {
    let clock = BodyClock::start(limits);
    let mut json = Vec::new();
    while let Some(chunk) = clock.next(body).await? {
        if json.len() + chunk.len() > limits.job_bytes_max {
            let detail = "the body is too long for what it should say";
            return Err(ApiError::new(ProblemCode::InvalidRequest, detail));
        }
        json.extend_from_slice(&chunk);
    }
    job_request::from_json(&json)
}

fn check(asked: &UploadRequest, limits: &Limits) -> Result<(), ApiError> {
    if asked.bytes < 1 {
        return Err(invalid("/bytes", "invalid", "must be at least 1"));
    }
    if asked.bytes > limits.image_bytes_max as i64 {
        return Err(too_large(limits));
    }
    let kind = asked.content_type.strip_prefix("image/");
    if !kind.is_some_and(|kind| limits.image_types.iter().any(|known| known == kind)) {
        let detail = format!(
            "images of these types are accepted here: {}",
            limits.image_types.join(", ")
        );
        return Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail));
    }
    Ok(())
}
