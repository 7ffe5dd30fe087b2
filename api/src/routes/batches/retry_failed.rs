use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{groups, keys::Scope};

use super::{answer::answer, group_id, own_group};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, groups::BatchBody, openapi::NotFound};

/// Queues every failed job of a batch again, each as `POST /v1/jobs/{id}/retry` does it; the batch runs anew.
///
/// Refused lines never became jobs and stay refused; so do jobs whose image was deleted.
#[utoipa::path(
    post, path = "/v1/batches/{id}/retry_failed", operation_id = "retry_failed", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits")),
    responses(
        (status = 200, description = "There was nothing to retry", body = BatchBody),
        (status = 202, description = "Queued again", body = BatchBody),
        NotFound,
    ),
)]
pub(crate) async fn retry_failed(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = group_id(&request)?;
    own_group(&ctx, id, &caller.owner).await?;
    let queued = groups::retry_failed(&ctx.db, id, &caller.owner).await?;
    let response = if queued > 0 {
        HttpResponse::Accepted()
    } else {
        HttpResponse::Ok()
    };
    let group = own_group(&ctx, id, &caller.owner).await?;
    Ok(answer(response, group))
}
