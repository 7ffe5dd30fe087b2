//! What an answer with a batch in it has besides.

use std::time::Duration;

use actix_web::{HttpResponse, HttpResponseBuilder, http::header};
use jobs::{BatchId, batches::Batch, queue::JobWatch};

use super::own_batch;
use crate::{
    batches::{BatchBody, etag},
    ctx::Ctx,
    error::ApiError,
    wait::{self, Preferred},
};

/// Its jobs say nothing to those who wait for a batch as a whole: how often a waiter looks for itself.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Holds on until the batch is as the client wants it, time is up, or the process leaves.
pub(super) async fn wait(
    ctx: &Ctx,
    (preferred, watch): &(Preferred, JobWatch),
    id: BatchId,
    owner: &str,
    is_news: impl Fn(&Batch) -> bool,
) -> Result<Batch, ApiError> {
    loop {
        let batch = own_batch(ctx, id, owner).await?;
        let Some(left) = preferred.held(ctx).filter(|_| !is_news(&batch)) else {
            return Ok(batch);
        };
        wait::changed(ctx, watch, left.min(LOOKS_EVERY)).await;
    }
}

/// The batch, where it is, and when to ask again.
pub(super) fn answer(mut response: HttpResponseBuilder, batch: Batch) -> HttpResponse {
    if !batch.has_ended() {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response
        .insert_header((header::ETAG, etag(&batch)))
        .json(BatchBody::from(batch))
}
