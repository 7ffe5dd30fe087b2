use actix_web::{HttpRequest, HttpResponse, web::Data};
use jobs::{
    Problem, ProblemCode,
    images::{self, CollectError, PurgeOutcome},
    keys::Scope,
};

use super::digest;
use crate::{auth::Caller, ctx::Ctx, error::ApiError, openapi::NotFound};

/// Deletes an image that no job waits or runs for. Finished jobs keep their results; they cannot be retried any more.
#[utoipa::path(
    delete, path = "/v1/images/{sha256}", operation_id = "delete_image", tag = "images",
    params(("sha256" = String, Path, description = "64 hex digits, with or without `sha256:` before them")),
    responses(
        (status = 204, description = "Deleted"),
        NotFound,
        (status = 409, description = "job_not_finished: a job needs it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete_image(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Submit)?;
    let sha256 = digest(&request)?;
    let purged = images::purge(&ctx.db, &ctx.store, &caller.owner, sha256).await;
    let purged = purged.map_err(|error| match error {
        CollectError::Db(error) => ApiError::from(error),
        CollectError::Store(error) => error.into(),
    });
    match purged? {
        PurgeOutcome::Done => Ok(HttpResponse::NoContent().finish()),
        PurgeOutcome::Needed => {
            let detail = "a job over this image has not ended: cancel it, then delete the image";
            Err(ApiError::new(ProblemCode::JobNotFinished, detail).retry_after(1))
        }
        PurgeOutcome::NotFound => Err(ApiError::not_found()),
    }
}
