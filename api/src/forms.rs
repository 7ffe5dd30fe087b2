//! The three forms of a submit, read into one: raw bytes, multipart, JSON.

use actix_multipart::Multipart;
use actix_web::{HttpMessage, HttpRequest, http::header, web::Payload};
use jobs::{
    ProblemCode, images,
    models::{Resolved, resolve},
};
use serde_json::{Map, Value};

use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_request::{self, JobRequest, Source},
    spool::{BodyClock, Spool, Upload, receive, too_large},
};

/// A submit that was read and checked; its image may still have to be stored.
#[derive(Debug)]
pub(crate) struct Submit {
    pub asked: JobRequest,
    pub model: Resolved,
    /// With the model's defaults filled in.
    pub params: Map<String, Value>,
    pub image: Given,
}

#[derive(Debug)]
pub(crate) enum Given {
    Uploaded(Upload),
    /// Named by its digest: this owner stored it before.
    Stored(images::Image),
}

impl Given {
    pub fn image(&self) -> &images::Image {
        match self {
            Self::Uploaded(upload) => &upload.image,
            Self::Stored(image) => image,
        }
    }
}

/// Reads a submit in whichever form it comes. What is wrong is refused as early as it can be told.
pub(crate) async fn read(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
    mut body: Payload,
) -> Result<Submit, ApiError> {
    refuse_by_headers(request, ctx)?;
    let clock = BodyClock::start(&ctx.config.limits);
    let content_type = request.content_type().to_ascii_lowercase();
    let (asked, (model, params), image) = if content_type == "multipart/form-data" {
        let (asked, upload) = read_multipart(ctx, request, body, &clock).await?;
        let model = checked(ctx, &asked).await?;
        (asked, model, Given::Uploaded(upload))
    } else if content_type == "application/json" {
        let mut asked = job_request::from_json(&read_json(ctx, &mut body, &clock).await?)?;
        let model = checked(ctx, &asked).await?;
        let source = asked.image.take().ok_or_else(no_image)?.pick()?;
        (asked, model, from_source(ctx, caller, source).await?)
    } else {
        let asked = job_request::from_query(request.query_string())?;
        let model = checked(ctx, &asked).await?;
        let expected = content_length(request).unwrap_or_default();
        let upload = receive(&mut body, &clock, expected, &ctx.config.limits).await?;
        (asked, model, Given::Uploaded(upload))
    };
    Ok(Submit {
        asked,
        model,
        params,
        image,
    })
}

/// What the headers alone rule out, before a byte of the body is read.
fn refuse_by_headers(request: &HttpRequest, ctx: &Ctx) -> Result<(), ApiError> {
    let text = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if text(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        return Err(ApiError::new(
            ProblemCode::UnsupportedMediaType,
            "send the body without Content-Encoding: images are compressed already",
        ));
    }
    if content_length(request).is_some_and(|length| length > body_bytes_max(ctx)) {
        return Err(too_large(&ctx.config.limits));
    }
    Ok(())
}

fn content_length(request: &HttpRequest) -> Option<usize> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Of any form: base64 takes four bytes for three.
fn body_bytes_max(ctx: &Ctx) -> usize {
    ctx.config.limits.image_bytes_max / 3 * 4 + 4 + ctx.config.limits.job_bytes_max
}

/// The model that is meant, and its parameters filled in; all that can be wrong before the image matters.
async fn checked(
    ctx: &Ctx,
    asked: &JobRequest,
) -> Result<(Resolved, Map<String, Value>), ApiError> {
    asked.check()?;
    let model = asked.model.as_deref();
    if model.is_some_and(|model| model.contains('\0')) {
        return Err(unknown_model(model));
    }
    let resolved = resolve(&ctx.db, model)
        .await?
        .ok_or_else(|| unknown_model(model))?;
    let params = resolved.manifest.params(&asked.params)?;
    Ok((resolved, params))
}

fn unknown_model(model: Option<&str>) -> ApiError {
    let detail = match model {
        Some(_) => "no model, version or alias of this name; GET /v1/models lists what there is",
        None => "name a model: this service has no default one",
    };
    ApiError::new(ProblemCode::UnknownModel, detail).with_error("/model", "unknown", detail)
}

fn no_image() -> ApiError {
    ApiError::new(ProblemCode::InvalidRequest, "the request has no image").with_error(
        "/image",
        "missing",
        "give an image",
    )
}

async fn from_source(ctx: &Ctx, caller: &Caller, source: Source) -> Result<Given, ApiError> {
    match source {
        Source::Stored(sha256) => {
            let image = images::find(&ctx.db, &caller.owner, sha256).await?;
            image.map(Given::Stored).ok_or_else(|| {
                ApiError::new(
                    ProblemCode::NotFound,
                    "no image of yours has this digest: upload it first",
                )
                .with_error("/image/sha256", "unknown", "not uploaded, or deleted")
            })
        }
        Source::Inline(bytes) => {
            let mut spool = Spool::new(&ctx.config.limits, bytes.len());
            spool.push(&bytes)?;
            Ok(Given::Uploaded(spool.finish()?))
        }
    }
}

async fn read_json(ctx: &Ctx, body: &mut Payload, clock: &BodyClock) -> Result<Vec<u8>, ApiError> {
    let mut json = Vec::new();
    while let Some(chunk) = clock.next(body).await? {
        if json.len() + chunk.len() > body_bytes_max(ctx) {
            return Err(too_large(&ctx.config.limits));
        }
        json.extend_from_slice(&chunk);
    }
    if json.is_empty() {
        return Err(ApiError::new(
            ProblemCode::InvalidRequest,
            "the body is empty",
        ));
    }
    Ok(json)
}

/// Part `image`, once; part `job`, at most once; nothing else.
async fn read_multipart(
    ctx: &Ctx,
    request: &HttpRequest,
    body: Payload,
    clock: &BodyClock,
) -> Result<(JobRequest, Upload), ApiError> {
    let broken = |detail: &str| ApiError::new(ProblemCode::InvalidRequest, detail);
    let mut parts = Multipart::new(request.headers(), body);
    let (mut asked, mut upload) = (None, None);
    while let Some(mut part) = clock.next(&mut parts).await? {
        match part.name() {
            Some("image") if upload.is_none() => {
                let mut spool = Spool::new(&ctx.config.limits, 0);
                while let Some(chunk) = clock.next(&mut part).await? {
                    spool.push(&chunk)?;
                }
                upload = Some(spool.finish()?);
            }
            Some("job") if asked.is_none() => {
                let mut json = Vec::new();
                while let Some(chunk) = clock.next(&mut part).await? {
                    if json.len() + chunk.len() > ctx.config.limits.job_bytes_max {
                        return Err(broken("the part `job` is too long"));
                    }
                    json.extend_from_slice(&chunk);
                }
                asked = Some(job_request::from_json(&json)?);
            }
            Some("image" | "job") => return Err(broken("each part may come once")),
            _ => {
                return Err(ApiError::new(
                    ProblemCode::InvalidParams,
                    "the parts are `image` and `job`; there is another one",
                ));
            }
        }
    }
    let asked: JobRequest = asked.unwrap_or_default();
    if asked.image.is_some() {
        return Err(broken("the image comes in its part, not in the part `job`"));
    }
    Ok((asked, upload.ok_or_else(no_image)?))
}
