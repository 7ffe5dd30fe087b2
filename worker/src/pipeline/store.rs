//! Storing: a mask, or a result that is too large for its row, becomes an object before the row that names it is written.
//!
//! An attempt that turns out to be stale leaves an object that no row names: an orphan, which the sweep collects.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use jobs::{
    ProblemCode, Sha256Digest,
    job::StageError,
    manifest::Precision,
    object_store::{Body, StoreError},
    results::{self, Kind},
};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Outcome, Prediction, Shared, Stage, Work,
    postprocess::{Drawn, Mask, Predicted},
};

/// A job whose result is to become an object.
#[derive(Debug)]
pub(super) struct Unstored {
    work: Work,
    object: Object,
    precision: Option<Precision>,
    batch_size: usize,
    batch_position: usize,
}

#[derive(Debug)]
enum Object {
    Json(Vec<u8>),
    Mask(Mask),
}

/// Knows which results fit into their rows, and where the others go.
#[derive(Debug, Clone)]
pub(super) struct Storer {
    inline_bytes_max: usize,
    to_store: mpsc::Sender<Unstored>,
}

impl Storer {
    pub(super) fn new(inline_bytes_max: usize, to_store: mpsc::Sender<Unstored>) -> Self {
        Self {
            inline_bytes_max,
            to_store,
        }
    }

    /// Decides that the attempt succeeded, now or once its object is stored. `precision`: if it has to be told.
    pub(super) fn settle(
        &self,
        work: Work,
        predicted: Predicted,
        precision: Option<Precision>,
        batch_size: usize,
        batch_position: usize,
    ) {
        let object = match predicted {
            Predicted::Mask(mask) => Object::Mask(mask),
            Predicted::Result(mut result) => {
                tell(&mut result, precision);
                let encoded = serde_json::to_vec(&result).expect("a value is JSON");
                if encoded.len() <= self.inline_bytes_max {
                    return work.settle(Outcome::Succeeded(Prediction {
                        result,
                        batch_size,
                        batch_position,
                    }));
                }
                Object::Json(encoded)
            }
        };
        let unstored = Unstored {
            work,
            object,
            precision,
            batch_size,
            batch_position,
        };
        // As long as the room is wide: never full. Without a reader the process is ending, and the work releases itself.
        drop(self.to_store.try_send(unstored));
    }
}

/// Stores result after result, `puts` at a time, of which `draws` are being drawn, until there are no more.
pub(super) async fn store_results(
    shared: Arc<Shared>,
    mut unstored: mpsc::Receiver<Unstored>,
    puts: usize,
    draws: usize,
) {
    let (puts, draws) = (
        Arc::new(Semaphore::new(puts)),
        Arc::new(Semaphore::new(draws)),
    );
    while let Some(unstored) = unstored.recv().await {
        let slot = puts.clone().acquire_owned().await;
        let (shared, draws) = (shared.clone(), draws.clone());
        tokio::spawn(async move {
            let _slot = slot;
            store(&shared, unstored, &draws).await;
        });
    }
}

async fn store(shared: &Shared, unstored: Unstored, draws: &Semaphore) {
    let Unstored {
        mut work,
        object,
        precision,
        batch_size,
        batch_position,
    } = unstored;
    let began = Instant::now();
    let (bytes, mut result, kind) = match object {
        Object::Json(encoded) => {
            let result = json!({"bytes": encoded.len()});
            (encoded, result, Kind::Json)
        }
        Object::Mask(mask) => match draw(mask, draws).await {
            Ok(Drawn { png, result }) => (png, result, Kind::Mask),
            Err(error) => return work.settle(Outcome::Fail(error)),
        },
    };
    tell(&mut result, precision);
    match put(shared, &work, bytes.into(), kind).await {
        Ok(key) => {
            work.timings.record(Stage::Store, began.elapsed());
            work.settle(Outcome::Succeeded(Prediction {
                result: results::naming(result, key),
                batch_size,
                batch_position,
            }));
        }
        Err(error) => {
            shared.back_off.trouble(&error.to_string());
            work.settle(Outcome::Release);
        }
    }
}

/// A precision that is not the model's default is part of where the numbers came from.
fn tell(result: &mut Value, precision: Option<Precision>) {
    if let Some(precision) = precision {
        result["precision"] = precision.to_string().into();
    }
}

async fn draw(mask: Mask, draws: &Semaphore) -> Result<Drawn, StageError> {
    let _slot = draws.acquire().await;
    let picture = tokio::task::spawn_blocking(move || mask.draw()).await;
    let failed = || StageError::new(ProblemCode::Internal, "the mask cannot be drawn");
    match picture {
        Ok(picture) => picture.map_err(|error| failed().caused_by(error)),
        Err(panic) => Err(failed().caused_by(panic)),
    }
}

/// The key that it lies under now. A second put of the same attempt writes the same bytes.
async fn put(shared: &Shared, work: &Work, bytes: Bytes, kind: Kind) -> Result<String, StoreError> {
    let key = results::object_key(&work.claim.owner, work.claim.lease, kind);
    let sha256 = Sha256Digest::of(&bytes);
    let put = shared
        .store
        .put(&key, Body::Memory(&bytes), sha256, kind.content_type());
    put.await.map(|()| key)
}
