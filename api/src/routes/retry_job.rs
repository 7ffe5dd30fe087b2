use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{
    Problem, ProblemCode,
    keys::Scope,
    queue::{self, Resubmitted},
};

use super::{job_id, own_job};
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, etag},
    openapi::NotFound,
};

/// Queues a job again that `failed`, `expired` or was `canceled`: same id, its history kept, with a new budget of attempts.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/retry", operation_id = "retry_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 202, description = "Queued again", body = JobBody,
         headers(("Location" = String, description = "Where to poll"), ("Retry-After" = u32), ("ETag" = String))),
        NotFound,
        (status = 409, description = "not_retryable: it succeeded, or has not ended yet", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged: its image or its data was deleted", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = job_id(&request)?;
    match queue::resubmit(&ctx.db, id, Some(&caller.owner)).await? {
        Resubmitted::Queued => {}
        Resubmitted::NotTerminal => {
            let detail = "the job has not ended: there is nothing to repeat yet";
            return Err(ApiError::new(ProblemCode::NotRetryable, detail));
        }
        Resubmitted::Succeeded => {
            let detail = "the job succeeded and its result is final: submit a new one instead";
            return Err(ApiError::new(ProblemCode::NotRetryable, detail));
        }
        Resubmitted::InputPurged => {
            let detail = "what the job was about is deleted: submit the image again";
            return Err(ApiError::new(ProblemCode::DataPurged, detail));
        }
        Resubmitted::NotFound => return Err(ApiError::not_found()),
    }
    let job = own_job(&ctx, id, &caller.owner).await?;
    let attempts = queue::attempts(&ctx.db, id).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/v1/jobs/{id}")))
        .insert_header((
            header::RETRY_AFTER,
            ctx.pace.retry_after_seconds(&job).to_string(),
        ))
        .insert_header((header::ETAG, etag(&job)))
        .json(JobBody::new(job, Some(attempts))))
}
