use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{Job, Problem, keys::Scope, queue};

use super::{has_version, job_id, own_job};
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, etag},
    openapi::NotFound,
    wait::Preferred,
};

/// A job as it stands, with its result once it has one.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds: for any change if you send `If-None-Match`, else for the end"),
           ("If-None-Match" = Option<String>, Header, description = "The `ETag` that you have")),
    responses(
        (status = 200, description = "The job", body = JobBody, headers(("ETag" = String), ("Retry-After" = u32), ("Server-Timing" = String))),
        (status = 304, description = "You have this version"),
        NotFound,
        (status = 410, description = "data_purged", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let preferred = Preferred::of(&request);
    let knows_one = request.headers().contains_key(header::IF_NONE_MATCH);
    let watch = preferred.map(|_| {
        if knows_one {
            ctx.changes.watch(id)
        } else {
            ctx.changes.watch_end(id)
        }
    });
    let mut job = own_job(&ctx, id, &caller.owner).await?;
    if let Some((preferred, watch)) = preferred.zip(watch) {
        let is_news = |job: &Job| {
            job.state.is_terminal() || (knows_one && !has_version(&request, &etag(job)))
        };
        job = preferred.until(&ctx, &watch, job, is_news).await?;
    }
    let tag = etag(&job);
    let is_known = has_version(&request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response.insert_header((header::ETAG, tag));
    if let Some(preferred) = preferred {
        response.insert_header(preferred.applied());
    }
    if is_known {
        return Ok(response.finish());
    }
    if job.state.is_terminal() {
        if let Some(timing) = server_timing(job.timings.as_ref()) {
            response.insert_header(("Server-Timing", timing));
        }
    } else {
        let seconds = ctx.pace.retry_after_seconds(&job);
        response.insert_header((header::RETRY_AFTER, seconds.to_string()));
    }
    let attempts = queue::attempts_of(&ctx.db, &job).await?;
    Ok(response.json(JobBody::new(job, Some(attempts))))
}

/// Stage times in the form that browsers draw.
fn server_timing(timings: Option<&serde_json::Value>) -> Option<String> {
    let stages = timings?.as_object()?.iter();
    let parts: Vec<_> = stages
        .filter_map(|(stage, ms)| Some(format!("{stage};dur={}", ms.as_f64()?)))
        .collect();
    Some(parts.join(", "))
}
