use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{
    JobState, Problem, ProblemCode,
    keys::Scope,
    queue::{self, Canceled},
};

use super::{job_id, own_job};
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    job_body::{JobBody, etag},
    openapi::NotFound,
};

/// Cancels a job: at once if it waits, as soon as its worker lets go if it runs.
///
/// A canceled job never becomes `succeeded`. Repeating is fine.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", operation_id = "cancel_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "Canceled", body = JobBody),
        (status = 202, description = "Asked of its worker", body = JobBody),
        NotFound,
        (status = 409, description = "job_terminal: it ended in another way", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "data_purged", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = job_id(&request)?;
    let mut response = match queue::cancel(&ctx.db, id, Some(&caller.owner)).await? {
        Canceled::AtOnce | Canceled::Terminal(JobState::Canceled) => HttpResponse::Ok(),
        Canceled::Requested => HttpResponse::Accepted(),
        Canceled::NotFound => return Err(ApiError::not_found()),
        Canceled::Terminal(state) => {
            let detail = format!("the job has {state} already: there is nothing to cancel");
            return Err(ApiError::new(ProblemCode::JobTerminal, detail));
        }
    };
    ctx.notifier.changed([id]);
    let job = own_job(&ctx, id, &caller.owner).await?;
    let attempts = queue::attempts(&ctx.db, job.id).await?;
    Ok(response
        .insert_header((header::ETAG, etag(&job)))
        .json(JobBody::new(job, Some(attempts))))
}
