use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    Problem, ProblemCode,
    groups::{self, GroupStatus},
    keys::Scope,
};

use super::{answer::answer, group_id, own_group};
use crate::{auth::Caller, ctx::Ctx, error::ApiError, groups::BatchBody, openapi::NotFound};

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
    let id = group_id(&request)?;
    let was = own_group(&ctx, id, &caller.owner).await?;
    if was.has_ended() && was.status() != GroupStatus::Canceled {
        let detail = "every job of the batch has ended already: there is nothing to cancel";
        return Err(ApiError::new(ProblemCode::JobTerminal, detail));
    }
    if groups::cancel(&ctx.db, id, &caller.owner).await? {
        // Committed is the wish: if this request is cut off here, housekeeping goes on.
        while groups::cancel_some(&ctx.db, Some(id)).await? > 0 {}
    }
    let group = own_group(&ctx, id, &caller.owner).await?;
    let response = if group.has_ended() {
        HttpResponse::Ok()
    } else {
        HttpResponse::Accepted()
    };
    Ok(answer(response, group))
}
