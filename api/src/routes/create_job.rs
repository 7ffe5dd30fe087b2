use actix_multipart::Multipart;
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use jobs::{
    Job, Problem, ProblemCode, images,
    keys::Scope,
    models::{Resolved, resolve},
    queue::{self, Watch},
};
use serde_json::{Map, Value};

use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, etag},
    job_request::{self, JobRequest, Source},
    request::trace_parent,
    spool::{BodyClock, Spool, Upload, receive, too_large},
    wait::Preferred,
};

/// Seconds after which a first look is worth while, until latency is measured.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Stores the image and queues one job over it.
///
/// Three forms, the same job: the raw bytes with parameters in the query; `multipart/form-data` with a part `image` and a
/// part `job`; JSON that carries the image in base64 or names one that was uploaded before. 202 means durable: the image is
/// in the object store and the job is committed.
#[utoipa::path(
    post, path = "/v1/jobs", operation_id = "create_job", tag = "jobs",
    params(
        ("model" = Option<String>, Query, description = "Raw form: `name`, `name@alias`, `name:version` or `name@sha256:…`"),
        ("priority" = Option<i16>, Query, description = "Raw form: from -100 to 100; higher goes first"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the job to end"),
        ("top_k" = Option<u32>, Query, description = "Raw form: a parameter of the model, as any other query parameter"),
    ),
    request_body(description = "The image, or JSON that says where it is", content(
        (JobRequest = "application/json"), (Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "Accepted, and ended while you waited", body = JobBody),
        (status = 202, description = "Accepted and durable", body = JobBody,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        (status = 400, description = "invalid_request", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "unauthorized", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "unknown_model, not_found", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "invalid_request: the body came too slowly", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "image_too_large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params, image_undecodable, image_too_many_pixels, image_url_blocked", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "queue_full, service_unavailable", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[tracing::instrument(skip_all, fields(job.id, job.owner = caller.owner))]
pub(crate) async fn create_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    mut body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    refuse_by_headers(&request, &ctx)?;
    let clock = BodyClock::start(&ctx.config.limits);
    let content_type = request.content_type().to_ascii_lowercase();

    let (asked, (model, params), image) = if content_type == "multipart/form-data" {
        let (asked, upload) = read_multipart(&ctx, &request, body, &clock).await?;
        let model = checked(&ctx, &asked).await?;
        (asked, model, store(&ctx, &caller, upload).await?)
    } else if content_type == "application/json" {
        let mut asked = job_request::from_json(&read_json(&ctx, &mut body, &clock).await?)?;
        let model = checked(&ctx, &asked).await?;
        let source = asked.image.take().ok_or_else(no_image)?.pick()?;
        (asked, model, from_source(&ctx, &caller, source).await?)
    } else {
        let asked = job_request::from_query(request.query_string())?;
        let model = checked(&ctx, &asked).await?;
        let upload = receive(&mut body, &clock, &ctx.config.limits).await?;
        (asked, model, store(&ctx, &caller, upload).await?)
    };

    let trace = trace_parent(&request);
    let job = asked.into_new_job(
        &caller.owner,
        model,
        params,
        image,
        trace,
        &ctx.config.limits,
    );
    tracing::Span::current().record("job.id", tracing::field::display(job.id));
    let preferred = Preferred::of(&request);
    let watch = preferred.map(|_| ctx.changes.watch(job.id));
    let enqueued = ctx.enqueuer.submit(job.clone()).await?;
    answer(&ctx, job.into_job(&enqueued), preferred.zip(watch)).await
}

/// 202, or 200 if the client would wait and the job ended meanwhile. Nothing that happens here takes the job back.
async fn answer(
    ctx: &Ctx,
    mut job: Job,
    wait: Option<(Preferred, Watch)>,
) -> Result<HttpResponse, ApiError> {
    let mut attempts = Vec::new();
    if let Some((preferred, watch)) = &wait
        && let Ok(newer) = preferred
            .until(ctx, watch, job.clone(), |job| job.state.is_terminal())
            .await
    {
        attempts = queue::attempts(&ctx.db, newer.id).await.unwrap_or_default();
        job = newer;
    }
    let mut response = if job.state.is_terminal() {
        HttpResponse::Ok()
    } else {
        let mut accepted = HttpResponse::Accepted();
        accepted.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS.to_string()));
        accepted
    };
    if let Some((preferred, _)) = wait {
        response.insert_header(preferred.applied());
    }
    Ok(response
        .insert_header((header::LOCATION, format!("/v1/jobs/{}", job.id)))
        .insert_header((header::ETAG, etag(&job)))
        .json(JobBody::new(job, Some(attempts))))
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
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > body_bytes_max(ctx)) {
        return Err(too_large(&ctx.config.limits));
    }
    Ok(())
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

/// Puts the image into the object store, unless this owner has it there.
async fn store(ctx: &Ctx, caller: &Caller, upload: Upload) -> Result<images::Image, ApiError> {
    let image = &upload.image;
    if images::find(&ctx.db, &caller.owner, image.sha256)
        .await?
        .is_none()
    {
        let key = images::object_key(&caller.owner, image.sha256);
        ctx.store
            .put(&key, upload.body(), image.sha256, &image.content_type)
            .await?;
    }
    Ok(upload.image)
}

async fn from_source(
    ctx: &Ctx,
    caller: &Caller,
    source: Source,
) -> Result<images::Image, ApiError> {
    match source {
        Source::Stored(sha256) => {
            let image = images::find(&ctx.db, &caller.owner, sha256).await?;
            image.ok_or_else(|| {
                ApiError::new(
                    ProblemCode::NotFound,
                    "no image of yours has this digest: upload it first",
                )
                .with_error("/image/sha256", "unknown", "not uploaded, or deleted")
            })
        }
        Source::Inline(bytes) => {
            let mut spool = Spool::new(&ctx.config.limits);
            spool.push(&bytes)?;
            store(ctx, caller, spool.finish()?).await
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
                let mut spool = Spool::new(&ctx.config.limits);
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
