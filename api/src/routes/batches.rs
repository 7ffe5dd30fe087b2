//! `/v1/batches`: many images at once.

mod answer;
mod cancel_batch;
mod create_batch;
mod get_batch;
mod get_batch_results;
mod list_batches;
mod retry_failed;

use actix_web::HttpRequest;
use jobs::{BatchId, batches, batches::Batch};

pub(crate) use self::{
    cancel_batch::__path_cancel_batch, create_batch::__path_create_batch,
    get_batch::__path_get_batch, get_batch_results::__path_get_batch_results,
    list_batches::__path_list_batches, retry_failed::__path_retry_failed,
};
pub(super) use self::{
    cancel_batch::cancel_batch, create_batch::create_batch, get_batch::get_batch,
    get_batch_results::get_batch_results, list_batches::list_batches, retry_failed::retry_failed,
};
use crate::{ctx::Ctx, error::ApiError};

/// The id in a path; one that cannot be an id is an id of nothing.
fn batch_id(request: &HttpRequest) -> Result<BatchId, ApiError> {
    let id = request.match_info().query("id");
    id.parse().map_err(|_| ApiError::not_found())
}

/// The caller's own batch.
async fn own_batch(ctx: &Ctx, id: BatchId, owner: &str) -> Result<Batch, ApiError> {
    let batch = batches::find(&ctx.db, id, owner).await?;
    batch.ok_or_else(ApiError::not_found)
}
