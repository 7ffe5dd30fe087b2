use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    keys::Scope,
    queue::{self, Explanation},
};

use super::job_id;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// Why a job is where it is: what goes first, who could take it, when it may begin, what is in its way.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/explain", operation_id = "explain_job", tag = "jobs",
    params(("id" = String, Path, description = "`job_` and 32 hex digits")),
    responses(
        (status = 200, description = "As things stand", body = Explanation),
        NotFound,
    ),
)]
pub(crate) async fn explain_job(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = job_id(&request)?;
    let explanation = queue::explain(&ctx.db, id, Some(&caller.owner)).await?;
    let explanation = explanation.ok_or_else(ApiError::not_found)?;
    Ok(HttpResponse::Ok().json(explanation))
}
