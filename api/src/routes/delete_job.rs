use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    Problem, ProblemCode,
    keys::Scope,
    queue::{self, PurgeOutcome},
};

use super::job_id;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// Deletes what a finished job was about: result, parameters, metadata; its image too once no other job needs it.
///
/// The id stays known for a while and answers 410. Repeating is fine.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", operation_id = "delete_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
        (status = 409, description = "job_not_finished: cancel it first", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    match queue::purge(&ctx.db, job_id(&request)?, Some(&caller.owner)).await? {
        PurgeOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        PurgeOutcome::NotTerminal => {
            let detail = "the job has not ended: cancel it, then delete it";
            Err(ApiError::new(ProblemCode::JobNotFinished, detail).retry_after(1))
        }
        PurgeOutcome::NotFound => Err(ApiError::not_found()),
    }
}
