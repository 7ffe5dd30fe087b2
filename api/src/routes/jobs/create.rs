use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    post,
    web::{Data, Payload},
};
use jobs::{
    Job, JobId,
    images::Image,
    keys::Scope,
    queue::{
        self, EarlierRequest, IdempotencyKey, JobWatch, MatchingJob, NewJob, PendingUpload,
        QueueError,
    },
    results,
};
use wire::CacheOutcome;

use super::{body::etag, own_job, wait_for_job};
use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        headers::{idempotency_key, key_reused},
        trace::traceparent,
        waiting::WaitPreference,
    },
    job_fields::{job_body, new_job},
    limits::{keyring::Caller, quotas::Reservation},
    submit::{
        forms,
        image_input::ImageInput,
        job_request::{self, RawForm},
        stored_images,
    },
};

/// Stores the image and queues one job over it.
///
/// There are three forms: the raw bytes, with the job in the query; `multipart/form-data` with the parts `image` and `job`;
/// JSON that contains the image in base64 or names a stored image or a URL. 202 means durable: the image is in the object
/// store and the job is committed.
#[utoipa::path(
    operation_id = "create_job", tag = "jobs",
    params(
        RawForm,
        ("metadata.KEY" = Option<String>, Query, description = "Raw form: your metadata, as text"),
        ("Idempotency-Key" = Option<String>, Header, description = "A key of yours, new for each job: repeating the request queues nothing twice"),
        ("Cache-Control" = Option<String>, Header, description = "`no-cache`: a new job, even if an earlier job made this prediction"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds for the job to end"),
        ("webhook" = Option<String>, Query, description = "Raw form: a URL that gets a webhook when the job ends"),
        ("top_k" = Option<u32>, Query, description = "Raw form: a parameter of the model, like every other query parameter"),
    ),
    request_body(description = "The image, or JSON that says where the image is", content(
        (wire::JobRequest = "application/json"), (Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/form-data"),
    )),
    responses(
        (status = 200, description = "The job has ended: within the wait, or because an earlier job made this prediction", body = wire::Job),
        (status = 202, description = "Accepted and durable", body = wire::Job,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        (status = 400, description = "invalid_request", body = wire::Problem, content_type = "application/problem+json"),
        (status = 401, description = "unauthorized", body = wire::Problem, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = wire::Problem, content_type = "application/problem+json"),
        (status = 404, description = "unknown_model, not_found", body = wire::Problem, content_type = "application/problem+json"),
        (status = 408, description = "invalid_request: the body came too slowly", body = wire::Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged: the Idempotency-Key stands for a job whose data was deleted", body = wire::Problem, content_type = "application/problem+json"),
        (status = 413, description = "image_too_large", body = wire::Problem, content_type = "application/problem+json"),
        (status = 415, description = "unsupported_media_type", body = wire::Problem, content_type = "application/problem+json"),
        (status = 422, description = "invalid_params, image_undecodable, image_too_many_pixels, image_url_blocked, image_url_failed, idempotency_key_reused", body = wire::Problem, content_type = "application/problem+json"),
        (status = 429, description = "rate_limited, quota_exceeded: too many unended jobs, or too many bytes stored; see `Retry-After`", body = wire::Problem, content_type = "application/problem+json"),
        (status = 503, description = "queue_full, service_unavailable", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/jobs")]
#[tracing::instrument(skip_all, fields(job.id, job.owner = caller.owner))]
pub(super) async fn create_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let key = idempotency_key(&request)?;
    // Before the body is read, so that a full queue is reported at once.
    if ctx.enqueuer.is_full() {
        return Err(QueueError::Full.into());
    }
    let job_reservation = ctx.quotas.reserve_jobs(&caller, 1).await?;
    let preference = WaitPreference::of(&request);
    // Boxed, so that a waiting request does not hold the memory of this future.
    let submit = Box::pin(forms::read(&ctx, &caller, &request, body)).await?;
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        fingerprint: job_request::fingerprint(&submit.request, submit.image.image().sha256),
    });
    if let Some(idempotency) = &idempotency
        && let Some(earlier) =
            queue::find_earlier_request(&ctx.db, &caller.owner, &idempotency.key).await?
    {
        // Not held while the client waits.
        drop(submit);
        return replay(&ctx, &caller, idempotency, earlier, preference).await;
    }
    job_request::check_deadline(&submit.request)?;

    let StoredInput {
        image,
        recent_jobs,
        reservation,
        coming,
    } = Box::pin(store(&ctx, &caller, submit.image)).await?;
    drop(submit.share);
    let traceparent = traceparent(&request);
    let (owner, limits) = (&caller.owner, &ctx.config.limits);
    let mut job = new_job(
        submit.request,
        owner,
        submit.model,
        submit.params,
        image,
        traceparent,
        limits,
    );
    job.idempotency.clone_from(&idempotency);
    if allows_reuse(&ctx, &request)
        && let Some(response) = reuse(&ctx, &job, &recent_jobs, preference).await?
    {
        return Ok(response);
    }
    tracing::Span::current().record("job.id", tracing::field::display(job.id));
    let watch = preference.map(|_| ctx.changes.watch_end(job.id));
    let submitted = match coming {
        Some(coming) => coming.submit(job.clone()).await,
        None => ctx.enqueuer.submit(job.clone()).await,
    };
    match (submitted, idempotency) {
        // Another request with this key was faster.
        (Err(QueueError::KeyTaken), Some(idempotency)) => {
            let earlier = queue::find_earlier_request(&ctx.db, owner, &idempotency.key).await?;
            let earlier = earlier.ok_or(QueueError::KeyTaken)?;
            replay(&ctx, &caller, &idempotency, earlier, preference).await
        }
        (enqueued, _) => {
            let job = job.into_job(&enqueued?);
            [job_reservation, reservation]
                .into_iter()
                .flatten()
                .for_each(Reservation::commit);
            answer(&ctx, job, CacheOutcome::Miss, preference.zip(watch)).await
        }
    }
}

/// Whether the service and the client allow an earlier job to answer.
fn allows_reuse(ctx: &Ctx, request: &HttpRequest) -> bool {
    let mut headers = request.headers().get_all(header::CACHE_CONTROL);
    let wants_new = headers.any(|value| {
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let mut directives = value.split(',').map(str::trim);
        directives.any(|one| ["no-cache", "no-store", "max-age=0"].contains(&one))
    });
    !ctx.config.no_prediction_cache && !wants_new
}

/// Answers with an earlier job that made this prediction or is about to; `None` if there is none.
async fn reuse(
    ctx: &Ctx,
    job: &NewJob,
    recent_jobs: &[JobId],
    preference: Option<WaitPreference>,
) -> Result<Option<HttpResponse>, ApiError> {
    let Some(predicted) = queue::find_matching_job(&ctx.statements, job, recent_jobs).await? else {
        return Ok(None);
    };
    let id = predicted.job();
    let watch = preference.map(|_| ctx.changes.watch_end(id));
    // The job may have been purged or removed since.
    let found = ctx.jobs.find(id, &job.owner).await?;
    let Some(found) = found.filter(|found| found.purged_at.is_none()) else {
        return Ok(None);
    };
    // The object store may have lost a result that is an object.
    if let Some(key) = found.result.as_ref().and_then(results::key_of)
        && !ctx.store.exists(key).await?
    {
        return Ok(None);
    }
    if let Some(idempotency) = &job.idempotency
        && !queue::remember_key(&ctx.db, &job.owner, idempotency, id).await?
    {
        return Ok(None); // another request with this key was faster: the enqueuer reports `KeyTaken`
    }
    let cache = match predicted {
        MatchingJob::Hit(_) => CacheOutcome::Hit,
        MatchingJob::Joined(_) => CacheOutcome::Joined,
    };
    metrics::counter!("darkroom_cached_total", "cache" => cache.as_str()).increment(1);
    tracing::Span::current().record("job.id", tracing::field::display(id));
    answer(ctx, found, cache, preference.zip(watch))
        .await
        .map(Some)
}

/// Answers a repeated request with the job of the first one.
///
/// # Errors
/// `idempotency_key_reused`: the first request was a different one.
async fn replay(
    ctx: &Ctx,
    caller: &Caller,
    key: &IdempotencyKey,
    earlier: EarlierRequest,
    preference: Option<WaitPreference>,
) -> Result<HttpResponse, ApiError> {
    if earlier.fingerprint != key.fingerprint {
        return Err(key_reused());
    }
    let watch = preference.map(|_| ctx.changes.watch_end(earlier.job_id));
    let job = own_job(ctx, earlier.job_id, &caller.owner).await?;
    let mut response = answer(ctx, job, CacheOutcome::Miss, preference.zip(watch)).await?;
    let name = HeaderName::from_static("idempotent-replayed");
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("true"));
    Ok(response)
}

/// Answers 202, or 200 if the job has ended. Waits first, if the client prefers. Errors of reading are ignored: the job is
/// committed, and the client must get its id.
async fn answer(
    ctx: &Ctx,
    mut job: Job,
    cache: CacheOutcome,
    wait: Option<(WaitPreference, JobWatch)>,
) -> Result<HttpResponse, ApiError> {
    let mut attempts = match job.attempts_started {
        0 => Vec::new(),
        _ => queue::attempts_of(&ctx.db, &job).await.unwrap_or_default(),
    };
    if let Some((preference, watch)) = &wait
        && let Ok(newer) = wait_for_job(ctx, *preference, watch, job.clone(), |job| {
            job.state.is_terminal()
        })
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
        let seconds = ctx.retry_after.seconds(&job);
        accepted.insert_header((header::RETRY_AFTER, seconds.to_string()));
        accepted
    };
    if let Some((preference, _)) = wait {
        response.insert_header(preference.applied());
    }
    response
        .insert_header((header::LOCATION, format!("/v1/jobs/{}", job.id)))
        .insert_header((header::ETAG, etag(&job)));
    let mut body = job_body(job, Some(attempts));
    body.cache = cache;
    Ok(response.json(body))
}

/// An image in the object store, for a new job.
struct StoredInput<'a> {
    image: Image,
    /// The latest jobs over the image; none if it is new.
    recent_jobs: Vec<JobId>,
    /// The room that a new image takes.
    reservation: Option<Reservation>,
    /// Announces a job over a new image to the enqueuer, so that its commit waits for the job. No earlier job can answer it.
    coming: Option<PendingUpload<'a>>,
}

/// Puts the image into the object store, unless its owner has stored it already.
async fn store<'a>(
    ctx: &'a Ctx,
    caller: &Caller,
    input: ImageInput,
) -> Result<StoredInput<'a>, ApiError> {
    let stored = match &input {
        ImageInput::Stored(stored) => Some(stored.clone()),
        ImageInput::Uploaded(upload) => {
            stored_images::find_registered(ctx, &caller.owner, upload.image.sha256).await?
        }
    };
    if let Some(stored) = stored {
        if let ImageInput::Uploaded(upload) = &input
            && stored.suspicion.is_some()
        {
            upload.replace(ctx, caller, &stored.image).await?;
        }
        return Ok(StoredInput {
            image: stored.image,
            recent_jobs: stored.recent_jobs,
            reservation: None,
            coming: None,
        });
    }
    let coming = ctx.enqueuer.announce_upload();
    let (image, reservation) = input.store(ctx, caller).await?;
    Ok(StoredInput {
        image,
        recent_jobs: Vec::new(),
        reservation,
        coming: Some(coming),
    })
}
