use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{JobState, Problem, ProblemCode, keys::Scope, results};

use super::{has_version, job_id, own_job};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, job_body::etag, openapi::NotFound};

/// The result alone: the JSON, or where to read the object that it is.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/result", operation_id = "get_result", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "What the model said; its shape depends on the task", body = Object, headers(("ETag" = String))),
        (status = 303, description = "It is an object of its own (the picture of a `segment` task, or a large result): read it at `Location`, soon and without your key", headers(("ETag" = String), ("Location" = String))),
        (status = 304, description = "You have this version"),
        NotFound,
        (status = 409, description = "job_not_finished (with `Retry-After`) or job_failed", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get_result(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let job = own_job(&ctx, job_id(&request)?, &caller.owner).await?;
    if !job.state.is_terminal() {
        let detail = format!("the job is {}: come back later", job.state);
        let seconds = ctx.pace.retry_after_seconds(&job);
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
            Some(key) => elsewhere(&ctx, key, tag).await,
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
                format!("the job has no result, it {}{why}", ended(state)),
            ))
        }
    }
}

/// Where to read an object, for a short time.
async fn elsewhere(ctx: &Ctx, key: &str, etag: String) -> Result<HttpResponse, ApiError> {
    let lives = Duration::from_secs(ctx.config.limits.result_url_seconds);
    let file_name = key.rsplit('/').next().unwrap_or(key);
    let url = ctx.store.presign_get(key, file_name, lives).await?;
    Ok(HttpResponse::SeeOther()
        .insert_header((header::ETAG, etag))
        .insert_header((header::LOCATION, url))
        // The next one who asks needs another URL.
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish())
}

fn ended(state: JobState) -> &'static str {
    match state {
        JobState::Canceled => "was canceled",
        JobState::Expired => "expired",
        _ => "failed",
    }
}
