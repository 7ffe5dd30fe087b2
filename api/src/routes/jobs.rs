//! `/v1/jobs`: one image, one prediction.

mod body;
mod create;
pub(crate) mod list;
pub(crate) mod retry;
mod steps;

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, delete, get, http::header, post, web::Data};
use jobs::{
    Job, JobId, JobState, ProblemCode,
    keys::Scope,
    queue::{self, CancelOutcome, JobWatch, PurgeOutcome},
    results,
};
use utoipa_actix_web::service_config::ServiceConfig;

use self::body::{etag, explanation_body};
use crate::{
    ctx::Ctx,
    http::{
        error::ApiError,
        headers::has_version,
        waiting::{WaitPreference, wait_for_change},
    },
    job_fields::job_body,
    limits::keyring::Caller,
    openapi::NotFound,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(create::create_job)
        .service(list::list_jobs)
        .service(get_job)
        .service(get_result)
        .service(cancel_job)
        .service(retry::retry_job)
        .service(delete_job)
        .service(explain_job)
        .service(steps::job_events);
}

/// The id in a path; 404 if it cannot be one.
fn job_id(request: &HttpRequest) -> Result<JobId, ApiError> {
    let id = request.match_info().query("id");
    id.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own job.
///
/// # Errors
/// 404 if there is none, 410 if its data was deleted.
async fn own_job(ctx: &Ctx, id: JobId, owner: &str) -> Result<Job, ApiError> {
    let job = ctx.jobs.find(id, owner).await?;
    let job = job.ok_or_else(ApiError::not_found)?;
    if job.purged_at.is_some() {
        let detail = "the data of this job was deleted, on request or because its time was over";
        return Err(ApiError::new(ProblemCode::DataPurged, detail));
    }
    Ok(job)
}

/// Waits until the job is as the client wants it, the time is over, or the process shuts down. Returns the job as it is then.
///
/// `watch` must be older than `job`, so that no change is missed.
async fn wait_for_job(
    ctx: &Ctx,
    preference: WaitPreference,
    watch: &JobWatch,
    mut job: Job,
    is_wanted: impl Fn(&Job) -> bool,
) -> Result<Job, ApiError> {
    while !is_wanted(&job) {
        let Some(remaining) = preference.remaining(ctx.shutdown()) else {
            break;
        };
        watch.knows(job.version);
        // The job is dropped and read again: ten thousand waiting requests would hold kilobytes each.
        let (id, owner) = into_id_and_owner(job);
        wait_for_change(ctx.shutdown(), watch, remaining).await;
        // Boxed, so that a waiting request does not hold the memory of this future.
        job = Box::pin(own_job(ctx, id, &owner)).await?;
    }
    Ok(job)
}

fn into_id_and_owner(job: Job) -> (JobId, String) {
    (job.id, job.owner)
}

/// The current state of a job, with its result once it has succeeded.
#[utoipa::path(
    operation_id = "get_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds: for any change if you send `If-None-Match`, else for the end"),
           ("If-None-Match" = Option<String>, Header, description = "The `ETag` that you have")),
    responses(
        (status = 200, description = "The job", body = wire::Job, headers(("ETag" = String), ("Retry-After" = u32), ("Server-Timing" = String))),
        (status = 304, description = "You have this version"),
        NotFound,
        (status = 410, description = "data_purged", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/jobs/{id}")]
async fn get_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let preference = WaitPreference::of(&request);
    let sends_etag = request.headers().contains_key(header::IF_NONE_MATCH);
    let watch = preference.map(|_| {
        if sends_etag {
            ctx.changes.watch(id)
        } else {
            ctx.changes.watch_end(id)
        }
    });
    let mut job = own_job(&ctx, id, &caller.owner).await?;
    if let Some((preference, watch)) = preference.zip(watch) {
        let is_wanted = |job: &Job| {
            job.state.is_terminal() || (sends_etag && !has_version(&request, &etag(job)))
        };
        job = wait_for_job(&ctx, preference, &watch, job, is_wanted).await?;
    }
    let tag = etag(&job);
    let is_known = has_version(&request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response.insert_header((header::ETAG, tag));
    if let Some(preference) = preference {
        response.insert_header(preference.applied());
    }
    if is_known {
        return Ok(response.finish());
    }
    if job.state.is_terminal() {
        if let Some(timing) = server_timing(job.timings.as_ref()) {
            response.insert_header(("Server-Timing", timing));
        }
    } else {
        let seconds = ctx.retry_after.seconds(&job);
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    let attempts = queue::attempts_of(&ctx.db, &job).await?;
    Ok(response.json(job_body(job, Some(attempts))))
}

/// The header `Server-Timing`: the times of the stages, as browsers show them.
fn server_timing(timings: Option<&serde_json::Value>) -> Option<String> {
    let stages = timings?.as_object()?.iter();
    let parts: Vec<_> = stages
        .filter_map(|(stage, ms)| Some(format!("{stage};dur={}", ms.as_f64()?)))
        .collect();
    Some(parts.join(", "))
}

/// The result alone: as JSON, or as a redirect to an object.
#[utoipa::path(
    operation_id = "get_result", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "The prediction; its shape depends on the task", body = Object, headers(("ETag" = String))),
        (status = 303, description = "The result is an object (the mask of a `segment` task, or a large result): read it at `Location`, soon and without your key", headers(("ETag" = String), ("Location" = String))),
        (status = 304, description = "You have this version"),
        NotFound,
        (status = 409, description = "job_not_finished (with `Retry-After`) or job_failed", body = wire::Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/v1/jobs/{id}/result")]
async fn get_result(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let job = own_job(&ctx, job_id(&request)?, &caller.owner).await?;
    if !job.state.is_terminal() {
        let detail = format!("the job is {}: come back later", job.state);
        let seconds = ctx.retry_after.seconds(&job);
        return Err(ApiError::new(ProblemCode::JobNotFinished, detail).retry_after(seconds));
    }
    let tag = etag(&job);
    match (job.state, job.result) {
        (JobState::Succeeded, Some(_)) if has_version(&request, &tag) => {
            Ok(HttpResponse::NotModified()
                .insert_header((header::ETAG, tag))
                .finish())
        }
        (JobState::Succeeded, Some(result)) => match results::key_of(&result) {
            Some(key) => redirect_to_object(&ctx, key, tag).await,
            None => Ok(HttpResponse::Ok()
                .insert_header((header::ETAG, tag))
                .json(result)),
        },
        (state, _) => {
            let why = job
                .problem
                .as_ref()
                .and_then(|problem| problem["detail"].as_str());
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Err(ApiError::new(
                ProblemCode::JobFailed,
                format!("the job has no result, it {}{why}", describe_end(state)),
            ))
        }
    }
}

/// Redirects to a signed URL of a result object.
///
/// # Errors
/// `data_purged`: the object store has no such object any more.
async fn redirect_to_object(ctx: &Ctx, key: &str, etag: String) -> Result<HttpResponse, ApiError> {
    if !ctx.store.exists(key).await? {
        tracing::error!(object.key = key, "the object store has lost a result");
        let detail = "the object store has lost the result of this job: submit the image again";
        return Err(ApiError::new(ProblemCode::DataPurged, detail));
    }
    let valid_for = Duration::from_secs(ctx.config.limits.result_url_seconds);
    let file_name = key.rsplit('/').next().unwrap_or(key);
    let url = ctx.store.presign_get(key, file_name, valid_for).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::ETAG, etag))
        .insert_header((header::LOCATION, url))
        // The URL expires, so nothing may keep it.
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}

fn describe_end(state: JobState) -> &'static str {
    match state {
        JobState::Canceled => "was canceled",
        JobState::Expired => "expired",
        _ => "failed",
    }
}

/// Cancels a job: a waiting job at once, a running job when its worker stops.
///
/// A canceled job never becomes `succeeded`. May be repeated.
#[utoipa::path(
    operation_id = "cancel_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "Canceled", body = wire::Job),
        (status = 202, description = "Requested; its worker will stop", body = wire::Job),
        NotFound,
        (status = 409, description = "job_terminal: it ended in another way", body = wire::Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/v1/jobs/{id}/cancel")]
async fn cancel_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = job_id(&request)?;
    let mut response = match queue::cancel(&ctx.db, id, Some(&caller.owner)).await? {
        CancelOutcome::AtOnce | CancelOutcome::Terminal(JobState::Canceled) => HttpResponse::Ok(),
        CancelOutcome::Requested => HttpResponse::Accepted(),
        CancelOutcome::NotFound => return Err(ApiError::not_found()),
        CancelOutcome::Terminal(state) => {
            let detail = format!("the job has {state} already: there is nothing to cancel");
            return Err(ApiError::new(ProblemCode::JobTerminal, detail));
        }
    };
    ctx.notifier.changed([id]);
    let job = own_job(&ctx, id, &caller.owner).await?;
    let attempts = queue::attempts(&ctx.db, job.id).await?;
    Ok(response
        .insert_header((header::ETAG, etag(&job)))
        .json(job_body(job, Some(attempts))))
}

/// Deletes the data of a finished job: result, parameters, metadata; and its image once no other job needs it.
///
/// For a while the id answers 410. May be repeated.
#[utoipa::path(
    operation_id = "delete_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
        (status = 409, description = "job_not_finished: cancel it first", body = wire::Problem, content_type = "application/problem+json"),
    ),
)]
#[delete("/v1/jobs/{id}")]
async fn delete_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let (id, actor) = (job_id(&request)?, caller.audit_name());
    match queue::purge_for(&ctx.db, id, &caller.owner, &actor).await? {
        PurgeOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        PurgeOutcome::NotTerminal => {
            let detail = "the job has not ended: cancel it, then delete it";
            Err(ApiError::new(ProblemCode::JobNotFinished, detail).retry_after(1))
        }
        PurgeOutcome::NotFound => Err(ApiError::not_found()),
    }
}

/// Explains the state of a job: the jobs before it, the workers that could run it, when it may start, what blocks it.
#[utoipa::path(
    operation_id = "explain_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "The explanation", body = wire::Explanation),
        NotFound,
    ),
)]
#[get("/v1/jobs/{id}/explain")]
async fn explain_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let explanation = queue::explain(&ctx.db, id, Some(&caller.owner)).await?;
    let explanation = explanation.ok_or_else(ApiError::not_found)?;
    Ok(HttpResponse::Ok().json(explanation_body(explanation)))
}
