use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    web::{Data, Payload},
};
use jobs::{
    Job, JobId, Problem, ProblemCode,
    images::Image,
    keys::Scope,
    queue::{
        self, EarlierRequest, IdempotencyKey, JobWatch, MatchingJob, NewJob, PendingUpload,
        QueueError,
    },
};

use super::own_job;
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    forms::{self, Given},
    job_body::{Cache, JobBody, etag},
    job_request::JobRequest,
    quota::Reserved,
    request::trace_parent,
    stored,
    wait::Preferred,
};

const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

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
        ("metadata.KEY" = Option<String>, Query, description = "Raw form: yours, as text"),
        ("run_at" = Option<String>, Query, format = DateTime, description = "Raw form: not before this time"),
        ("deadline" = Option<String>, Query, format = DateTime, description = "Raw form: of no use after this time"),
        ("max_attempts" = Option<i16>, Query, minimum = 1, maximum = 20, description = "Raw form: from 1 to 20"),
        ("retain_for" = Option<String>, Query, description = "Raw form: how long to keep the finished job: `P7D`, `PT12H`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Yours, new for each request: sending the same again queues nothing again"),
        ("Cache-Control" = Option<String>, Header, description = "`no-cache`: a job of its own, even if the same prediction was made already"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the job to end"),
        ("webhook" = Option<String>, Query, description = "Raw form: a URL that is told how the job ends"),
        ("top_k" = Option<u32>, Query, description = "Raw form: a parameter of the model, as any other query parameter"),
    ),
    request_body(description = "The image, or JSON that says where it is", content(
        (JobRequest = "application/json"), (Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "Ended already: while you waited, or because the same prediction was made before", body = JobBody),
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
        (status = 429, description = "rate_limited, quota_exceeded: too many unended jobs, or too many bytes stored; see `Retry-After`", body = Problem, content_type = "application/problem+json"),
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
    // Before the body is read: what cannot be taken now is told within a millisecond.
    if ctx.enqueuer.is_full() {
        return Err(QueueError::Full.into());
    }
    let place = ctx.quotas.admit(&caller, 1).await?;
    let preferred = Preferred::of(&request);
    // Boxed, as what follows: a waiter has no need for their room.
    let submit = Box::pin(forms::read(&ctx, &caller, &request, body)).await?;
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        fingerprint: submit.asked.fingerprint(submit.image.image().sha256),
    });
    if let Some(idempotency) = &idempotency
        && let Some(earlier) =
            queue::find_earlier_request(&ctx.db, &caller.owner, &idempotency.key).await?
    {
        return replay(&ctx, &caller, idempotency, earlier, preferred).await;
    }
    submit.asked.check_deadline()?;

    let InBucket {
        image,
        recent_jobs,
        room,
        coming,
    } = Box::pin(store(&ctx, &caller, submit.image)).await?;
    let trace = trace_parent(&request);
    let (owner, limits) = (&caller.owner, &ctx.config.limits);
    let mut job =
        submit
            .asked
            .into_new_job(owner, submit.model, submit.params, image, trace, limits);
    job.idempotency.clone_from(&idempotency);
    if takes_cached(&ctx, &request)
        && let Some(answered) = cached(&ctx, &job, &recent_jobs, preferred).await?
    {
        return Ok(answered);
    }
    tracing::Span::current().record("job.id", tracing::field::display(job.id));
    let watch = preferred.map(|_| ctx.changes.watch_end(job.id));
    let submitted = match coming {
        Some(coming) => coming.submit(job.clone()).await,
        None => ctx.enqueuer.submit(job.clone()).await,
    };
    match (submitted, idempotency) {
        // Another request with this key was faster.
        (Err(QueueError::KeyTaken), Some(idempotency)) => {
            let earlier = queue::find_earlier_request(&ctx.db, owner, &idempotency.key).await?;
            let earlier = earlier.ok_or(QueueError::KeyTaken)?;
            replay(&ctx, &caller, &idempotency, earlier, preferred).await
        }
        (enqueued, _) => {
            let job = job.into_job(&enqueued?);
            [place, room]
                .into_iter()
                .flatten()
                .for_each(Reserved::landed);
            answer(&ctx, job, Cache::Miss, preferred.zip(watch)).await
        }
    }
}

/// Whether the service and the client let a job that is there already answer.
fn takes_cached(ctx: &Ctx, request: &HttpRequest) -> bool {
    let mut wishes = request.headers().get_all(header::CACHE_CONTROL);
    let fresh = wishes.any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let mut directives = value.split(',').map(str::trim);
        directives.any(|one| ["no-cache", "no-store", "max-age=0"].contains(&one))
    });
    !ctx.config.no_prediction_cache && !fresh
}

/// The answer of a job that would only be repeated.
async fn cached(
    ctx: &Ctx,
    job: &NewJob,
    recent_jobs: &[JobId],
    preferred: Option<Preferred>,
) -> Result<Option<HttpResponse>, ApiError> {
    let Some(predicted) = queue::find_matching_job(&ctx.kept, job, recent_jobs).await? else {
        return Ok(None);
    };
    let id = predicted.job();
    let watch = preferred.map(|_| ctx.changes.watch_end(id));
    // It may have been purged since, or be gone.
    let found = ctx.finder.find(id, &job.owner).await?;
    let Some(found) = found.filter(|found| found.purged_at.is_none()) else {
        return Ok(None);
    };
    if let Some(idempotency) = &job.idempotency
        && !queue::remember_key(&ctx.db, &job.owner, idempotency, id).await?
    {
        return Ok(None); // another request with this key was faster: the enqueuer tells which
    }
    let cache = match predicted {
        MatchingJob::Hit(_) => Cache::Hit,
        MatchingJob::Joined(_) => Cache::Joined,
    };
    metrics::counter!("darkroom_cached_total", "cache" => cache.as_str()).increment(1);
    tracing::Span::current().record("job.id", tracing::field::display(id));
    answer(ctx, found, cache, preferred.zip(watch))
        .await
        .map(Some)
}

/// The key of a request that is safe to repeat; bare, or quoted as the draft has it.
pub(crate) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
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

pub(crate) fn key_reused() -> ApiError {
    ApiError::new(
        ProblemCode::IdempotencyKeyReused,
        "this Idempotency-Key was used for another request: use a new one for each",
    )
}

/// The first answer again, as the job stands now.
async fn replay(
    ctx: &Ctx,
    caller: &Caller,
    asked: &IdempotencyKey,
    earlier: EarlierRequest,
    preferred: Option<Preferred>,
) -> Result<HttpResponse, ApiError> {
    if earlier.fingerprint != asked.fingerprint {
        return Err(key_reused());
    }
    let watch = preferred.map(|_| ctx.changes.watch_end(earlier.job_id));
    let job = own_job(ctx, earlier.job_id, &caller.owner).await?;
    let mut response = answer(ctx, job, Cache::Miss, preferred.zip(watch)).await?;
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
    cache: Cache,
    wait: Option<(Preferred, JobWatch)>,
) -> Result<HttpResponse, ApiError> {
    let mut attempts = match job.attempts_started {
        0 => Vec::new(),
        _ => queue::attempts_of(&ctx.db, &job).await.unwrap_or_default(),
    };
    if let Some((preferred, watch)) = &wait
        && let Ok(newer) = preferred
            .until(ctx, watch, job.clone(), |job| job.state.is_terminal())
            .await
    {
        attempts = queue::attempts_of(&ctx.db, &newer)
            .await
            .unwrap_or_default();
        job = newer;
    }
    let mut response = if job.state.is_terminal() {
        HttpResponse::Ok()
    } else {
        let mut accepted = HttpResponse::Accepted();
        let seconds = ctx.pace.retry_after_seconds(&job);
        accepted.insert_header((header::RETRY_AFTER, seconds.to_string()));
        accepted
    };
    if let Some((preferred, _)) = wait {
        response.insert_header(preferred.applied());
    }
    Ok(response
        .insert_header((header::LOCATION, format!("/v1/jobs/{}", job.id)))
        .insert_header((header::ETAG, etag(&job)))
        .json(JobBody::new(job, Some(attempts)).cached(cache)))
}

/// An image in the bucket, for a job.
struct InBucket<'a> {
    image: Image,
    /// The last ones over it.
    recent_jobs: Vec<JobId>,
    /// That a new one takes.
    room: Option<Reserved>,
    /// Of a new one: no other job can answer for its own, so that it comes at once.
    coming: Option<PendingUpload<'a>>,
}

/// Puts a new image into the object store, unless this owner has it there.
async fn store<'a>(ctx: &'a Ctx, caller: &Caller, given: Given) -> Result<InBucket<'a>, ApiError> {
    let stored = match &given {
        Given::Stored(stored) => Some(stored.clone()),
        Given::Uploaded(upload) => stored::known(ctx, &caller.owner, upload.image.sha256).await?,
    };
    if let Some(stored) = stored {
        return Ok(InBucket {
            image: stored.image,
            recent_jobs: stored.recent_jobs,
            room: None,
            coming: None,
        });
    }
    let coming = ctx.enqueuer.announce_upload();
    let (image, room) = forms::put(ctx, caller, given).await?;
    Ok(InBucket {
        image,
        recent_jobs: Vec::new(),
        room,
        coming: Some(coming),
    })
}
