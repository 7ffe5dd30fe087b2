//! The three forms of a submit, read into one: raw bytes, multipart, JSON.

use actix_multipart::Multipart;
use actix_web::{HttpMessage, HttpRequest, web::Payload};
use jobs::{
    ProblemCode,
    models::{self, Resolved, UnreadyVersion, VersionState},
};
use serde_json::{Map, Value};
use wire::JobRequest;

use super::{
    image_input::{ImageInput, no_image},
    job_request::{self, image_location},
    spool::{Spool, Upload, receive, too_large},
};
use crate::{
    config::Limits,
    ctx::Ctx,
    http::{
        body::BodyClock,
        error::ApiError,
        headers::{content_length, has_idempotency_key, refuse_content_encoding},
        json::from_json,
        paging,
    },
    limits::keyring::Caller,
};

/// A submit that was read and checked; its image may still have to be stored.
#[derive(Debug)]
pub(crate) struct Submit {
    pub request: JobRequest,
    pub model: Resolved,
    /// With the model's defaults filled in.
    pub params: Map<String, Value>,
    pub image: ImageInput,
}

/// Reads a submit in any of its forms. An invalid request is refused as early as possible, often before its body is read.
pub(crate) async fn read(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
    mut body: Payload,
) -> Result<Submit, ApiError> {
    check_headers(request, ctx)?;
    let clock = BodyClock::start(&ctx.config.limits);
    let content_type = request.content_type().to_ascii_lowercase();
    let (job, (model, params), image) = if content_type == "multipart/form-data" {
        refuse_query(request, "the part `job`")?;
        let limits = &ctx.config.limits;
        let (mut job, upload) = read_multipart(limits, request, body, &clock).await?;
        let model = check(ctx, request, &mut job).await?;
        (job, model, ImageInput::Uploaded(upload))
    } else if content_type == "application/json" {
        refuse_query(request, "the JSON")?;
        let mut job: JobRequest = from_json(&read_json(ctx, &mut body, &clock).await?)?;
        let model = check(ctx, request, &mut job).await?;
        let location = image_location(job.image.take().ok_or_else(no_image)?)?;
        let image = ImageInput::from_location(ctx, caller, location).await?;
        (job, model, image)
    } else {
        let mut job = job_request::from_query(request.query_string())?;
        let model = check(ctx, request, &mut job).await?;
        let announced = announced_bytes(request);
        let upload = receive(&mut body, &clock, announced, &ctx.config.limits).await?;
        (job, model, ImageInput::Uploaded(upload))
    };
    Ok(Submit {
        request: job,
        model,
        params,
        image,
    })
}

/// Refuses by the headers alone, before the body is read.
pub(crate) fn check_headers(request: &HttpRequest, ctx: &Ctx) -> Result<(), ApiError> {
    refuse_content_encoding(request)?;
    if content_length(request).is_some_and(|length| length > body_bytes_max(ctx) as u64) {
        return Err(too_large(&ctx.config.limits));
    }
    Ok(())
}

/// Refuses query parameters: only a raw upload has its job there. Elsewhere they would be ignored without a word.
fn refuse_query(request: &HttpRequest, place: &str) -> Result<(), ApiError> {
    let Some((name, _)) = paging::query(request.query_string()).next() else {
        return Ok(());
    };
    let detail = format!("belongs into {place}: only a raw upload has parameters in the query");
    Err(ApiError::invalid_field(
        &format!("/{name}"),
        "misplaced",
        &detail,
    ))
}

/// The announced length of a body, to reserve memory; 0 if it is unknown.
pub(crate) fn announced_bytes(request: &HttpRequest) -> usize {
    let length = content_length(request).and_then(|length| length.try_into().ok());
    length.unwrap_or_default()
}

/// The largest body of any form: base64 takes four bytes for three.
fn body_bytes_max(ctx: &Ctx) -> usize {
    ctx.config.limits.image_bytes_max / 3 * 4 + 4 + ctx.config.limits.job_bytes_max
}

/// Checks everything but the image, resolves the model, and fills in its parameters.
///
/// With an `Idempotency-Key` the deadline is not checked here: the request may be a repetition, and its first answer counts.
async fn check(
    ctx: &Ctx,
    request: &HttpRequest,
    job: &mut JobRequest,
) -> Result<(Resolved, Map<String, Value>), ApiError> {
    job_request::check(job, &ctx.config.limits)?;
    if !has_idempotency_key(request) {
        job_request::check_deadline(job)?;
    }
    job_request::check_webhook(job, &ctx.egress)?;
    let model = resolve_model(ctx, job.model.as_deref()).await?;
    let params = model.manifest.params(&job.params)?;
    Ok((model, params))
}

/// The version that a model reference means now; without a reference, the version of the default model.
pub(crate) async fn resolve_model(ctx: &Ctx, model: Option<&str>) -> Result<Resolved, ApiError> {
    if model.is_some_and(|model| model.contains('\0')) {
        return Err(unknown_model(model));
    }
    if let Some(resolved) = ctx.models.resolve(model).await? {
        return Ok(resolved);
    }
    let unready = match model {
        Some(model) => models::find_unready(&ctx.db, model).await?,
        None => None,
    };
    Err(unready.map_or_else(|| unknown_model(model), |version| unready_model(&version)))
}

fn unready_model(version: &UnreadyVersion) -> ApiError {
    let reference = &version.reference;
    let refuse = |code: &str, detail: String| {
        ApiError::new(ProblemCode::UnknownModel, detail.clone()).with_error("/model", code, detail)
    };
    let code = version.state.as_str();
    match version.state {
        _ if version.is_retired => {
            let detail = format!("{reference} is retired; `unretire` takes that back");
            refuse("retired", detail)
        }
        VersionState::Rejected => {
            let detail = format!("{reference} was rejected: no worker could load it");
            refuse(code, detail)
        }
        VersionState::Validating | VersionState::Ready => {
            let detail = format!(
                "{reference} takes no jobs yet: it is validating until a worker has loaded it"
            );
            refuse(code, detail).retryable()
        }
    }
}

fn unknown_model(model: Option<&str>) -> ApiError {
    let detail = match model {
        Some(_) => "no model, version or alias of this name; GET /v1/models lists what there is",
        None => "name a model: this service has no default one",
    };
    ApiError::new(ProblemCode::UnknownModel, detail).with_error("/model", "unknown", detail)
}

async fn read_json(ctx: &Ctx, body: &mut Payload, clock: &BodyClock) -> Result<Vec<u8>, ApiError> {
    let too_long = || too_large(&ctx.config.limits);
    let json = clock.read_all(body, body_bytes_max(ctx), too_long).await?;
    if json.is_empty() {
        return Err(ApiError::new(
            ProblemCode::InvalidRequest,
            "the body is empty",
        ));
    }
    Ok(json)
}

/// Reads a form: the part `image` once, the part `job` at most once, no other parts.
pub(crate) async fn read_multipart(
    limits: &Limits,
    request: &HttpRequest,
    body: Payload,
    clock: &BodyClock,
) -> Result<(JobRequest, Upload), ApiError> {
    let invalid = |detail: &str| ApiError::new(ProblemCode::InvalidRequest, detail);
    let mut parts = Multipart::new(request.headers(), body);
    let (mut job, mut upload) = (None, None);
    while let Some(mut part) = clock.next(&mut parts).await? {
        match part.name() {
            Some("image") if upload.is_none() => {
                let mut spool = Spool::new(limits, 0);
                while let Some(chunk) = clock.next(&mut part).await? {
                    spool.push(&chunk)?;
                }
                upload = Some(spool.finish()?);
            }
            Some("job") if job.is_none() => {
                let too_long = || invalid("the part `job` is too long");
                let bytes_max = limits.job_bytes_max;
                let json = clock.read_all(&mut part, bytes_max, too_long).await?;
                job = Some(from_json(&json)?);
            }
            Some("image" | "job") => return Err(invalid("each part may come once")),
            _ => {
                return Err(ApiError::new(
                    ProblemCode::InvalidParams,
                    "the parts are `image` and `job`; there is another one",
                ));
            }
        }
    }
    let job: JobRequest = job.unwrap_or_default();
    if job.image.is_some() {
        return Err(invalid(
            "the image comes in its part, not in the part `job`",
        ));
    }
    Ok((job, upload.ok_or_else(no_image)?))
}
