//! The store stage: puts a mask, or a result that is too large for its row, into S3 before the row that names it is written.
//!
//! An attempt that turns out to be stale leaves an orphan: an object that no row names. The sweep deletes orphans.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use jobs::{
    ProblemCode, Sha256Digest,
    job::StageError,
    object_store::{Body, StoreError},
    results::{self, Kind},
};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::{
    attempt::{Attempt, Outcome, Prediction},
    context::StageContext,
    postprocess::{DrawnMask, Mask, TaskResult},
    stage::Stage,
};
use crate::models::Remarks;

/// An attempt whose result has to become an object.
#[derive(Debug)]
pub(super) struct UnstoredResult {
    attempt: Attempt,
    object: ResultObject,
    remarks: Remarks,
    batch_size: usize,
    batch_position: usize,
}

#[derive(Debug)]
enum ResultObject {
    Json(Vec<u8>),
    Mask(Mask),
}

/// Decides whether a result is stored in its row or as an object.
#[derive(Debug, Clone)]
pub(super) struct Storer {
    inline_bytes_max: usize,
    to_store: mpsc::Sender<UnstoredResult>,
}

impl Storer {
    pub(super) fn new(inline_bytes_max: usize, to_store: mpsc::Sender<UnstoredResult>) -> Self {
        Self {
            inline_bytes_max,
            to_store,
        }
    }

    /// Ends the attempt as succeeded: at once, or after its object is stored. The result names the `remarks`.
    pub(super) fn end_attempt(
        &self,
        attempt: Attempt,
        predicted: TaskResult,
        remarks: Remarks,
        batch_size: usize,
        batch_position: usize,
    ) {
        let object = match predicted {
            TaskResult::Mask(mask) => ResultObject::Mask(mask),
            TaskResult::Json(mut result) => {
                remarks.add_to(&mut result);
                let encoded = serde_json::to_vec(&result).expect("a value is JSON");
                if encoded.len() <= self.inline_bytes_max {
                    return attempt.end(Outcome::Succeeded(Prediction {
                        result,
                        batch_size,
                        batch_position,
                    }));
                }
                ResultObject::Json(encoded)
            }
        };
        let unstored = UnstoredResult {
            attempt,
            object,
            remarks,
            batch_size,
            batch_position,
        };
        // The channel has room for all places, so it is never full. If the process ends, the dropped attempt releases its job.
        drop(self.to_store.try_send(unstored));
    }
}

/// Stores results until the channel is closed: `puts` at the same time, and at most `draws` of them are being drawn.
pub(super) async fn store_results(
    context: Arc<StageContext>,
    mut unstored: mpsc::Receiver<UnstoredResult>,
    puts: usize,
    draws: usize,
) {
    let (puts, draws) = (
        Arc::new(Semaphore::new(puts)),
        Arc::new(Semaphore::new(draws)),
    );
    while let Some(unstored) = unstored.recv().await {
        let slot = puts.clone().acquire_owned().await;
        let (context, draws) = (context.clone(), draws.clone());
        tokio::spawn(async move {
            let _slot = slot;
            store(&context, unstored, &draws).await;
        });
    }
}

async fn store(context: &StageContext, unstored: UnstoredResult, draws: &Semaphore) {
    let UnstoredResult {
        mut attempt,
        object,
        remarks,
        batch_size,
        batch_position,
    } = unstored;
    let began = Instant::now();
    let (bytes, mut result, kind) = match object {
        ResultObject::Json(encoded) => {
            let result = json!({"bytes": encoded.len()});
            (encoded, result, Kind::Json)
        }
        ResultObject::Mask(mask) => match draw(mask, draws).await {
            Ok(DrawnMask { png, result }) => (png, result, Kind::Mask),
            Err(error) => return attempt.end(Outcome::Fail(error)),
        },
    };
    remarks.add_to(&mut result);
    match put(context, &attempt, bytes.into(), kind).await {
        Ok(key) => {
            attempt.timings.record(Stage::Store, began.elapsed());
            attempt.end(Outcome::Succeeded(Prediction {
                result: results::naming(result, key),
                batch_size,
                batch_position,
            }));
        }
        Err(error) => {
            context.claim_pause.report_outage(&error.to_string());
            attempt.end(Outcome::Release);
        }
    }
}

async fn draw(mask: Mask, draws: &Semaphore) -> Result<DrawnMask, StageError> {
    let _slot = draws.acquire().await;
    let picture = tokio::task::spawn_blocking(move || mask.draw()).await;
    let failed = || StageError::new(ProblemCode::Internal, "the mask cannot be drawn");
    match picture {
        Ok(picture) => picture.map_err(|error| failed().caused_by(error)),
        Err(panic) => Err(failed().caused_by(panic)),
    }
}

/// Puts the object and returns its key. A second put of an attempt writes the same bytes.
async fn put(
    context: &StageContext,
    attempt: &Attempt,
    bytes: Bytes,
    kind: Kind,
) -> Result<String, StoreError> {
    let key = results::object_key(&attempt.claim.owner, attempt.claim.lease, kind);
    let sha256 = Sha256Digest::of(&bytes);
    let put = context
        .store
        .put(&key, Body::Memory(&bytes), sha256, kind.content_type());
    put.await.map(|()| key)
}
