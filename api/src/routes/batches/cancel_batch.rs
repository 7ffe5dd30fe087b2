use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    Problem, ProblemCode,
    batches::{self, BatchStatus},
    keys::Scope,
};

use super::{answer::answer, batch_id, own_batch};
use crate::{auth::Caller, batches::BatchBody, ctx::Ctx, error::ApiError, openapi::NotFound};

/// Cancels every job of a batch that has not ended: at once if it waits, as soon as its worker lets go if it runs.
///
/// What has ended stays as it is. An upload that still goes on takes no more lines. Repeating is fine.
#[utoipa::path(
    post, path = "/v1/batches/{id}/cancel", operation_id = "cancel_batch", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits")),
    responses(
        (status = 200, description = "Canceled", body = BatchBody),
        (status = 202, description = "Asked for; some of its jobs still run", body = BatchBody),
        NotFound,
        (status = 409, description = "job_terminal: it ended in another way", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let id = batch_id(&request)?;
    let was = own_batch(&ctx, id, &caller.owner).await?;
    if was.has_ended() && was.status() != BatchStatus::Canceled {
        let detail = "every job of the batch has ended already: there is nothing to cancel";
        return Err(ApiError::new(ProblemCode::JobTerminal, detail));
    }
    if batches::cancel(&ctx.db, id, &caller.owner).await? {
        // Committed is the wish: if this request is cut off here, housekeeping goes on.
        while batches::cancel_some(&ctx.db, Some(id)).await? > 0 {}
    }
    let batch = own_batch(&ctx, id, &caller.owner).await?;
    let response = if batch.has_ended() {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    Ok(answer(response, batch))
}
