//! The three forms of a submit, read into one: raw bytes, multipart, JSON.

use actix_multipart::Multipart;
use actix_web::{HttpMessage, HttpRequest, http::header, web::Payload};
use jobs::{ProblemCode, images, models::Resolved};
use serde_json::{Map, Value};

use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    image_url,
    job_request::{self, JobRequest, Source, invalid},
    quota::Reserved,
    spool::{BodyClock, Spool, Upload, receive, too_large},
    stored,
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
    Stored(images::StoredImage),
}

impl Given {
    pub fn image(&self) -> &images::Image {
        match self {
            Self::Uploaded(upload) => &upload.image,
            Self::Stored(stored) => &stored.image,
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
        refuse_query(request, "the part `job`")?;
        let (mut asked, upload) = read_multipart(ctx, request, body, &clock).await?;
        let model = checked(ctx, request, &mut asked).await?;
        (asked, model, Given::Uploaded(upload))
    } else if content_type == "application/json" {
        refuse_query(request, "the JSON")?;
        let mut asked = job_request::from_json(&read_json(ctx, &mut body, &clock).await?)?;
        let model = checked(ctx, request, &mut asked).await?;
        let source = asked.image.take().ok_or_else(no_image)?.pick()?;
        (asked, model, from_source(ctx, caller, source).await?)
    } else {
        let mut asked = job_request::from_query(request.query_string())?;
        let model = checked(ctx, request, &mut asked).await?;
        let expected = expected_bytes(request);
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
pub(crate) fn refuse_by_headers(request: &HttpRequest, ctx: &Ctx) -> Result<(), ApiError> {
    refuse_encoded(request)?;
    if body_length(request).is_some_and(|length| length > body_bytes_max(ctx) as u64) {
        return Err(too_large(&ctx.config.limits));
    }
    Ok(())
}

pub(crate) fn refuse_encoded(request: &HttpRequest) -> Result<(), ApiError> {
    let coding = text_of(request, &header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(ApiError::new(
            ProblemCode::UnsupportedMediaType,
            "send the body without Content-Encoding: images are compressed already",
        ));
    }
    Ok(())
}

/// The query is the place of what a raw upload asks; nobody would see it beside a form that has a place of its own.
fn refuse_query(request: &HttpRequest, place: &str) -> Result<(), ApiError> {
    let mut query = form_urlencoded::parse(request.query_string().as_bytes());
    let Some((name, _)) = query.next() else {
        return Ok(());
    };
    let detail = format!("belongs into {place}: only a raw upload has parameters in the query");
    Err(invalid(&format!("/{name}"), "misplaced", &detail))
}

/// Whether it may have been asked before: then the first answer counts, and not what could be accepted now.
pub(crate) fn is_keyed(request: &HttpRequest) -> bool {
    request.headers().contains_key("idempotency-key")
}

/// How much room to make for a body; 0: not announced.
pub(crate) fn expected_bytes(request: &HttpRequest) -> usize {
    let length = body_length(request).and_then(|length| length.try_into().ok());
    length.unwrap_or_default()
}

/// As the client announced it.
pub(crate) fn body_length(request: &HttpRequest) -> Option<u64> {
    text_of(request, &header::CONTENT_LENGTH)?.parse().ok()
}

fn text_of<'a>(request: &'a HttpRequest, name: &header::HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

/// Of any form: base64 takes four bytes for three.
fn body_bytes_max(ctx: &Ctx) -> usize {
    ctx.config.limits.image_bytes_max / 3 * 4 + 4 + ctx.config.limits.job_bytes_max
}

/// The model that is meant, and its parameters filled in; all that can be wrong before the image matters. Under a key, the
/// deadline is left to the caller, who looks for an earlier answer first.
async fn checked(
    ctx: &Ctx,
    request: &HttpRequest,
    asked: &mut JobRequest,
) -> Result<(Resolved, Map<String, Value>), ApiError> {
    asked.check(&ctx.config.limits)?;
    if !is_keyed(request) {
        asked.check_deadline()?;
    }
    asked.check_webhook(&ctx.outside)?;
    let model = model(ctx, asked.model.as_deref()).await?;
    let params = model.manifest.params(&asked.params)?;
    Ok((model, params))
}

/// The version that a reference means now; without one, the default model's.
pub(crate) async fn model(ctx: &Ctx, model: Option<&str>) -> Result<Resolved, ApiError> {
    if model.is_some_and(|model| model.contains('\0')) {
        return Err(unknown_model(model));
    }
    let resolved = ctx.models.resolve(model).await?;
    resolved.ok_or_else(|| unknown_model(model))
}

fn unknown_model(model: Option<&str>) -> ApiError {
    let detail = match model {
        Some(_) => "no model, version or alias of this name; GET /v1/models lists what there is",
        None => "name a model: this service has no default one",
    };
    ApiError::new(ProblemCode::UnknownModel, detail).with_error("/model", "unknown", detail)
}

pub(crate) fn no_image() -> ApiError {
    ApiError::new(ProblemCode::InvalidRequest, "the request has no image").with_error(
        "/image",
        "missing",
        "give an image",
    )
}

pub(crate) fn unknown_image() -> ApiError {
    let detail = "no image of yours has this digest: upload it first";
    let error = ApiError::new(ProblemCode::NotFound, detail);
    error.with_error("/image/sha256", "unknown", "not uploaded, or deleted")
}

pub(crate) async fn from_source(
    ctx: &Ctx,
    caller: &Caller,
    source: Source,
) -> Result<Given, ApiError> {
    match source {
        Source::Stored(sha256) => {
            let image = stored::find(ctx, caller, sha256).await?;
            image.map(Given::Stored).ok_or_else(unknown_image)
        }
        Source::Url(url) => Ok(Given::Uploaded(image_url::fetch(ctx, &url).await?)),
        Source::Inline(bytes) => {
            let mut spool = Spool::new(&ctx.config.limits, bytes.len());
            spool.push(&bytes)?;
            Ok(Given::Uploaded(spool.finish()?))
        }
    }
}

/// Puts a new image into the object store, if its owner has room; `landed` once a row names it.
pub(crate) async fn put(
    ctx: &Ctx,
    caller: &Caller,
    given: Given,
) -> Result<(images::Image, Option<Reserved>), ApiError> {
    let upload = match given {
        Given::Stored(stored) => return Ok((stored.image, None)),
        Given::Uploaded(upload) => upload,
    };
    let image = &upload.image;
    let room = ctx.quotas.store(caller, image.bytes).await?;
    let key = images::object_key(&caller.owner, image.sha256, image.upload);
    ctx.store
        .put(&key, upload.body(), image.sha256, &image.content_type)
        .await?;
    Ok((upload.image, room))
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
