use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    web::{Data, Payload},
};
use jobs::{
    Job, Problem, ProblemCode,
    images::{self, Image},
    keys::Scope,
    queue::{self, Earlier, IdempotencyKey, QueueError, Watch},
};

use super::own_job;
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    forms::{self, Given},
    job_body::{JobBody, etag},
    job_request::JobRequest,
    request::trace_parent,
    wait::Preferred,
};

const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
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
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, new for each request: sending the same again queues nothing again"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the job to end"),
        ("webhook" = Option<String>, Query, description = "Raw form: a URL that is told how the job ends"),
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
        (status = 410, description = "data_purged: the Idempotency-Key stands for a job whose data was deleted", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "image_too_large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params, image_undecodable, image_too_many_pixels, image_url_blocked, image_url_failed, idempotency_key_reused", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "queue_full, service_unavailable", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[tracing::instrument(skip_all, fields(job.id, job.owner = caller.owner))]
pub(crate) async fn create_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let key = idempotency_key(&request)?;
    let preferred = Preferred::of(&request);
    // Boxed, as what follows: a waiter has no need for their room.
    let submit = Box::pin(forms::read(&ctx, &caller, &request, body)).await?;
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        fingerprint: submit.asked.fingerprint(submit.image.image().sha256),
    });
    if let Some(idempotency) = &idempotency
        && let Some(earlier) = queue::earlier(&ctx.db, &caller.owner, &idempotency.key).await?
    {
        return replay(&ctx, &caller, idempotency, earlier, preferred).await;
    }

    let image = Box::pin(store(&ctx, &caller, submit.image)).await?;
    let trace = trace_parent(&request);
    let (owner, limits) = (&caller.owner, &ctx.config.limits);
    let mut job =
        submit
            .asked
            .into_new_job(owner, submit.model, submit.params, image, trace, limits);
    job.idempotency.clone_from(&idempotency);
    tracing::Span::current().record("job.id", tracing::field::display(job.id));
    let watch = preferred.map(|_| ctx.changes.watch(job.id));
    match (ctx.enqueuer.submit(job.clone()).await, idempotency) {
        // Another request with this key was faster.
        (Err(QueueError::KeyTaken), Some(idempotency)) => {
            let earlier = queue::earlier(&ctx.db, owner, &idempotency.key).await?;
            let earlier = earlier.ok_or(QueueError::KeyTaken)?;
            replay(&ctx, &caller, &idempotency, earlier, preferred).await
        }
        (enqueued, _) => answer(&ctx, job.into_job(&enqueued?), preferred.zip(watch)).await,
    }
}

/// The key of a request that is safe to repeat; bare, or quoted as the draft has it.
fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Some(header) = request.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let key = header.to_str().unwrap_or_default().trim().trim_matches('"');
    if (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = "Idempotency-Key must be 1 to 255 plain characters";
    Err(ApiError::new(ProblemCode::InvalidRequest, detail))
}

/// The first answer again, as the job stands now.
async fn replay(
    ctx: &Ctx,
    caller: &Caller,
    asked: &IdempotencyKey,
    earlier: Earlier,
    preferred: Option<Preferred>,
) -> Result<HttpResponse, ApiError> {
    if earlier.fingerprint != asked.fingerprint {
        return Err(ApiError::new(
            ProblemCode::IdempotencyKeyReused,
            "this Idempotency-Key was used for another request: use a new one for each",
        ));
    }
    let watch = preferred.map(|_| ctx.changes.watch(earlier.job_id));
    let job = own_job(ctx, earlier.job_id, &caller.owner).await?;
    let mut response = answer(ctx, job, preferred.zip(watch)).await?;
    let name = HeaderName::from_static("idempotent-replayed");
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("true"));
    Ok(response)
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

/// Puts a new image into the object store, unless this owner has it there.
async fn store(ctx: &Ctx, caller: &Caller, given: Given) -> Result<Image, ApiError> {
    let upload = match given {
        Given::Stored(image) => return Ok(image),
        Given::Uploaded(upload) => upload,
    };
    let image = &upload.image;
    if let Some(stored) = images::find(&ctx.db, &caller.owner, image.sha256).await? {
        return Ok(stored);
    }
    let key = images::object_key(&caller.owner, image.sha256, image.upload);
    ctx.store
        .put(&key, upload.body(), image.sha256, &image.content_type)
        .await?;
    Ok(upload.image)
}
