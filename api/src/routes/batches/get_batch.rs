use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use jobs::{batches::Batch, keys::Scope};

use super::{
    answer::{answer, wait},
    batch_id, own_batch,
};
use crate::{
    auth::Caller, batches::BatchBody, batches::etag, ctx::Ctx, error::ApiError, openapi::NotFound,
    routes::has_version, wait::Preferred,
};

/// A batch as it stands: how many of its jobs wait, run and have ended.
#[utoipa::path(
    get, path = "/v1/batches/{id}", operation_id = "get_batch", tag = "batches",
    params(("id" = String, Path, description = "`batch_` and 32 hex digits"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`: hold the answer up to N (60) seconds: for any change if you send `If-None-Match`, else for the end"),
           ("If-None-Match" = Option<String>, Header, description = "The `ETag` that you have")),
    responses(
        (status = 200, description = "The batch", body = BatchBody, headers(("ETag" = String), ("Retry-After" = u32))),
        (status = 304, description = "You have this version"),
        NotFound,
    ),
)]
pub(crate) async fn get_batch(
    ctx: Data<Ctx>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    caller.needs(Scope::Read)?;
    let id = batch_id(&request)?;
    let preferred = Preferred::of(&request);
    let batch = match preferred {
        None => own_batch(&ctx, id, &caller.owner).await?,
        Some(preferred) => {
            let watching = (preferred, ctx.changes.watch_batch(id));
            let knows_one = request.headers().contains_key(header::IF_NONE_MATCH);
            let is_news = |batch: &Batch| {
                batch.has_ended() || (knows_one && !has_version(&request, &etag(batch)))
            };
            wait(&ctx, &watching, id, &caller.owner, is_news).await?
        }
    };
    let tag = etag(&batch);
    let is_known = has_version(&request, &tag);
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    if let Some(preferred) = preferred {
        response.insert_header(preferred.applied());
    }
    if is_known {
        return Ok(response.insert_header((header::ETAG, tag)).finish());
    }
    Ok(answer(response, batch))
}
