use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{JobState, Problem, keys::Scope, queue};

use super::{has_version, job_id, own_job};
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, etag},
};

/// A job as it stands, with its result once it has one.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits"),
           ("If-None-Match" = Option<String>, Header, description = "The `ETag` that you have")),
    responses(
        (status = 200, description = "The job", body = JobBody, headers(("ETag" = String), ("Retry-After" = u32), ("Server-Timing" = String))),
        (status = 304, description = "You have this version"),
        (status = 401, description = "unauthorized", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "forbidden", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "not_found", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "service_unavailable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let job = own_job(&ctx, job_id(&request)?, &caller.owner).await?;
    let tag = etag(&job);
    if has_version(&request, &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header((header::ETAG, tag))
            .finish());
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((header::ETAG, tag));
    if job.state.is_terminal() {
        if let Some(timing) = server_timing(job.timings.as_ref()) {
            response.insert_header(("Server-Timing", timing));
        }
    } else {
        let seconds = if job.state == JobState::Scheduled {
            "5"
        } else {
            "1"
        };
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    let attempts = queue::attempts(&ctx.db, job.id).await?;
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
