use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{batches, keys::Scope};

use super::{answer::answer, batch_id, own_batch};
use crate::{auth::Caller, batches::BatchBody, ctx::Ctx, error::ApiError, openapi::NotFound};

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
    let id = batch_id(&request)?;
    own_batch(&ctx, id, &caller.owner).await?;
    let queued = batches::retry_failed(&ctx.db, id, &caller.owner).await?;
    let response = if queued > 0 {
        HttpResponse::Accepted()
    } else {
        HttpResponse::Ok()
    };
    let batch = own_batch(&ctx, id, &caller.owner).await?;
    Ok(answer(response, batch))
}
