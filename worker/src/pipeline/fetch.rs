//! Fetching: the image from S3, its digest checked, while its model is being made ready.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use jobs::{ProblemCode, images::object_key, job::StageError, object_store::StoreError};
use tokio::sync::{Semaphore, mpsc};

use super::{Outcome, Shared, Stage, Work};
use crate::{
    drain::Phase,
    models::{LoadFault, Model},
};

/// A job with its image, still encoded, and its model.
#[derive(Debug)]
pub(super) struct Fetched {
    pub work: Work,
    pub model: Arc<Model>,
    pub bytes: Bytes,
}

/// Fetches for every claim, so many at a time, until there are no more.
pub(super) async fn fetch_images(
    shared: Arc<Shared>,
    mut claims: mpsc::Receiver<Work>,
    to_develop: mpsc::Sender<Fetched>,
    concurrency: usize,
) {
    let slots = Arc::new(Semaphore::new(concurrency));
    while let Some(work) = claims.recv().await {
        let slot = slots.clone().acquire_owned().await;
        let (shared, to_develop) = (shared.clone(), to_develop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let Some(work) = work.if_wanted(&shared.drain) else {
                return;
            };
            let drain = shared.drain.clone();
            let fetched = tokio::select! {
                fetched = fetch(&shared, work.claim.model_version_id, &work) => Some(fetched),
                () = drain.reached(Phase::Draining) => None,
            };
            hand_on(&shared, work, fetched, &to_develop).await;
        });
    }
}

type Fetch = (
    Result<Bytes, StoreError>,
    std::time::Duration,
    Result<Arc<Model>, LoadFault>,
);

async fn fetch(shared: &Shared, model: i64, work: &Work) -> Fetch {
    let image = async {
        let began = Instant::now();
        let claim = &work.claim;
        let key = object_key(&claim.owner, claim.image_sha256, claim.image_upload);
        let got = shared.store.get(&key, claim.image_sha256).await;
        (got, began.elapsed())
    };
    let ((image, took), model) = tokio::join!(image, shared.models.get(model));
    (image, took, model)
}

async fn hand_on(
    shared: &Shared,
    mut work: Work,
    fetched: Option<Fetch>,
    to_develop: &mpsc::Sender<Fetched>,
) {
    let Some((image, took, model)) = fetched else {
        return work.settle(Outcome::Release);
    };
    work.timings.record(Stage::Fetch, took);
    let bytes = match image {
        Ok(bytes) if bytes.len() as u64 > shared.image_bytes_max => {
            let detail = format!("the image has more than {} bytes", shared.image_bytes_max);
            return work.settle(Outcome::Fail(StageError::new(
                ProblemCode::ImageTooLarge,
                detail,
            )));
        }
        Ok(bytes) => bytes,
        Err(error) => {
            if let StoreError::Unavailable(cause) = &error {
                shared.back_off.trouble(cause);
            }
            return work.settle(outcome_of(error));
        }
    };
    match model {
        Ok(model) => {
            shared.back_off.no_trouble();
            let fetched = Fetched { work, model, bytes };
            // Without a reader the process is ending, and the work releases itself.
            drop(to_develop.send(fetched).await);
        }
        Err(LoadFault::Unavailable(cause)) => {
            shared.back_off.trouble(&cause);
            work.settle(Outcome::Release);
        }
        Err(LoadFault::TooLarge(cause)) => {
            let error = StageError::new(ProblemCode::OutOfMemory, "the model does not fit");
            work.settle(Outcome::Retry(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(LoadFault::Broken(cause)) => {
            let error = StageError::new(ProblemCode::ModelError, "the model cannot be loaded");
            work.settle(Outcome::Fail(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(LoadFault::DeviceLost(cause)) => work.abandon(&shared.drain, &cause),
    }
}

fn outcome_of(error: StoreError) -> Outcome {
    match error {
        StoreError::Missing(_) => Outcome::Fail(
            StageError::new(
                ProblemCode::DataPurged,
                "the image was deleted before the job ran",
            )
            .caused_by(error),
        ),
        StoreError::Corrupt(_) => Outcome::Retry(
            StageError::new(ProblemCode::Internal, "the stored image is damaged").caused_by(error),
        ),
        StoreError::Unavailable(_) => Outcome::Release,
    }
}
