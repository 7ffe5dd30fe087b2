//! The three forms of a submit, read into one: raw bytes, multipart, JSON.

use actix_web::{HttpMessage, HttpRequest, web::Payload};
use jobs::{
    ProblemCode,
    models::{self, Resolved, UnreadyVersion, VersionState},
};
use serde_json::{Map, Value};
use wire::JobRequest;

use super::{
    image_input::{ImageInput, no_image},
    job_json::{JobJson, SplitJob, TEXT_PER_JOB},
    job_request::{self, image_location},
    spool::{Spool, Upload, receive, too_large},
};
use crate::{
    config::Limits,
    ctx::Ctx,
    http::{
        body::BodyClock,
        body_budget::BodyShare,
        error::ApiError,
        headers::{content_length, has_idempotency_key, refuse_content_encoding},
        json::from_json,
        multipart::{self, Multipart},
        paging,
    },
    limits::keyring::Caller,
};

/// Longer than any reference: a name has up to 100 characters, a version up to 71.
const MODEL_REFERENCE_BYTES_MAX: usize = 400;

/// A submit that was read and checked; its image may still have to be stored.
#[derive(Debug)]
pub(crate) struct Submit {
    pub request: JobRequest,
    pub model: Resolved,
    /// With the model's defaults filled in.
    pub params: Map<String, Value>,
    pub image: ImageInput,
    /// The bytes of the image in this process. Drop it once the image is stored.
    pub share: Option<BodyShare>,
}

/// Reads a submit in any of its forms. An invalid request is refused as early as possible, often before its body is read.
pub(crate) async fn read(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
    mut body: Payload,
) -> Result<Submit, ApiError> {
    check_headers(request, ctx)?;
    let limits = &ctx.config.limits;
    let (job, (model, params), image, clock) = if multipart::is_form(request) {
        refuse_query(request, "the part `job`")?;
        let clock = start_body(ctx, caller, request).await?;
        let (mut job, upload) = read_multipart(limits, request, body, &clock).await?;
        let model = check(ctx, caller, request, &mut job).await?;
        (job, model, ImageInput::Uploaded(upload), clock)
    } else if request
        .content_type()
        .eq_ignore_ascii_case("application/json")
    {
        refuse_query(request, "the JSON")?;
        let clock = start_body(ctx, caller, request).await?;
        let split = read_json(limits, &mut body, &clock).await?;
        let mut job: JobRequest = from_json(&split.text)?;
        let model = check(ctx, caller, request, &mut job).await?;
        let source = job.image.take().ok_or_else(no_image)?;
        let location = image_location(source, split.image, limits)?;
        let image = ImageInput::from_location(ctx, caller, location).await?;
        (job, model, image, clock)
    } else {
        let mut job = job_request::from_query(request.query_string())?;
        let model = check(ctx, caller, request, &mut job).await?;
        let clock = start_body(ctx, caller, request).await?;
        let announced = announced_bytes(request);
        let upload = receive(&mut body, &clock, announced, limits).await?;
        (job, model, ImageInput::Uploaded(upload), clock)
    };
    Ok(Submit {
        request: job,
        model,
        params,
        image,
        share: clock.into_share(),
    })
}

/// Starts the clock for a body with an image, once there is room for its announced length.
///
/// # Errors
/// `rate_limited` or `queue_full`: there is no room.
pub(crate) async fn start_body(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
) -> Result<BodyClock, ApiError> {
    let share = ctx.body_budget.share(&caller.key_id);
    share.reserve(announced_bytes(request) as u64).await?;
    Ok(BodyClock::start(&ctx.config.limits).charging(share))
}

/// Refuses by the headers alone, before the body is read.
pub(crate) fn check_headers(request: &HttpRequest, ctx: &Ctx) -> Result<(), ApiError> {
    refuse_content_encoding(request)?;
    if content_length(request)
        .is_some_and(|length| length > body_bytes_max(&ctx.config.limits) as u64)
    {
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

/// The largest body of any form: base64 takes four bytes for three, line breaks and escapes an eighth more.
fn body_bytes_max(limits: &Limits) -> usize {
    let base64 = limits.image_bytes_max / 3 * 4 + 4;
    base64 + base64 / 8 + TEXT_PER_JOB * limits.job_bytes_max
}

/// Checks everything but the image, resolves the model, and fills in its parameters.
///
/// With an `Idempotency-Key` the deadline is not checked here: the request may be a repetition, and its first answer counts.
async fn check(
    ctx: &Ctx,
    caller: &Caller,
    request: &HttpRequest,
    job: &mut JobRequest,
) -> Result<(Resolved, Map<String, Value>), ApiError> {
    job_request::check(job, &ctx.config.limits)?;
    job_request::check_priority(job, caller.priority_max())?;
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
    let is_reference =
        |model: &str| model.len() <= MODEL_REFERENCE_BYTES_MAX && !model.contains('\0');
    if !model.is_none_or(is_reference) {
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

/// Reads a body of JSON. The image leaves the JSON while the body arrives.
async fn read_json(
    limits: &Limits,
    body: &mut Payload,
    clock: &BodyClock,
) -> Result<SplitJob, ApiError> {
    let (mut job, mut length) = (JobJson::new(limits), 0);
    while let Some(chunk) = clock.next(body).await? {
        length += chunk.len();
        if length > body_bytes_max(limits) {
            return Err(too_large(limits));
        }
        if job.push(&chunk) < chunk.len() {
            return Err(job.too_long());
        }
    }
    if length == 0 {
        return Err(ApiError::new(
            ProblemCode::InvalidRequest,
            "the body is empty",
        ));
    }
    Ok(job.finish())
}

/// Reads a form: the part `image` once, the part `job` at most once, no other parts.
pub(crate) async fn read_multipart(
    limits: &Limits,
    request: &HttpRequest,
    body: Payload,
    clock: &BodyClock,
) -> Result<(JobRequest, Upload), ApiError> {
    let invalid = |detail: &str| ApiError::new(ProblemCode::InvalidRequest, detail);
    let mut parts = Multipart::new(request, body)?;
    let (mut job, mut upload) = (None, None);
    while let Some(part) = parts.next_part(clock).await? {
        match part.name.as_str() {
            "image" if upload.is_none() => {
                let mut spool = Spool::new(limits, 0);
                while let Some(chunk) = parts.chunk(clock).await? {
                    spool.push(&chunk)?;
                }
                upload = Some(spool.finish()?);
            }
            "job" if job.is_none() => {
                let too_long = || invalid("the part `job` is too long");
                let bytes_max = limits.job_bytes_max;
                let json = parts.read_all(clock, bytes_max, too_long).await?;
                job = Some(from_json(&json)?);
            }
            "image" | "job" => return Err(invalid("each part may come once")),
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
