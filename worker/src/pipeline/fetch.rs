//! The fetch stage: gets the image from S3 and checks its digest, while the model is loaded if needed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jobs::{ProblemCode, images::object_key, job::StageError, object_store::StoreError};
use tokio::sync::{Semaphore, mpsc};

use super::{
    attempt::{Attempt, Outcome},
    context::StageContext,
    stage::Stage,
};
use crate::{
    drain::Phase,
    models::{LoadError, Model},
};

/// An attempt with its encoded image and its loaded model.
#[derive(Debug)]
pub(super) struct FetchedImage {
    pub attempt: Attempt,
    pub model: Arc<Model>,
    pub bytes: Bytes,
}

/// Fetches the images of all claims, `concurrency` at a time, until the channel is closed.
pub(super) async fn fetch_images(
    context: Arc<StageContext>,
    mut claims: mpsc::Receiver<Attempt>,
    to_decode: mpsc::Sender<FetchedImage>,
    concurrency: usize,
) {
    let slots = Arc::new(Semaphore::new(concurrency));
    while let Some(attempt) = claims.recv().await {
        let slot = slots.clone().acquire_owned().await;
        let (context, to_decode) = (context.clone(), to_decode.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let Some(attempt) = attempt.if_wanted(&context.drain) else {
                return;
            };
            let drain = context.drain.clone();
            let fetched = tokio::select! {
                fetched = fetch(&context, &attempt) => Some(fetched),
                () = drain.reached(Phase::Draining) => None,
            };
            send_to_decode(&context, attempt, fetched, &to_decode).await;
        });
    }
}

/// The image and the model of a job.
struct Fetched {
    image: Result<Bytes, StoreError>,
    image_time: Duration,
    model: Result<Arc<Model>, LoadError>,
}

async fn fetch(context: &StageContext, attempt: &Attempt) -> Fetched {
    let claim = &attempt.claim;
    let image = async {
        let began = Instant::now();
        let key = object_key(&claim.owner, claim.image_sha256, claim.image_upload);
        let image = context.store.get(&key, claim.image_sha256).await;
        (image, began.elapsed())
    };
    let model = context.models.get(claim.model_version_id);
    let ((image, image_time), model) = tokio::join!(image, model);
    Fetched {
        image,
        image_time,
        model,
    }
}

async fn send_to_decode(
    context: &StageContext,
    mut attempt: Attempt,
    fetched: Option<Fetched>,
    to_decode: &mpsc::Sender<FetchedImage>,
) {
    let Some(fetched) = fetched else {
        return attempt.end(Outcome::Release);
    };
    attempt.timings.record(Stage::Fetch, fetched.image_time);
    let bytes = match fetched.image {
        Ok(bytes) if bytes.len() as u64 > context.image_bytes_max => {
            let detail = format!("the image has more than {} bytes", context.image_bytes_max);
            return attempt.end(Outcome::Fail(StageError::new(
                ProblemCode::ImageTooLarge,
                detail,
            )));
        }
        Ok(bytes) => bytes,
        Err(error) => {
            if let StoreError::Unavailable(cause) | StoreError::Refused(cause) = &error {
                context.claim_pause.report_outage(cause);
            }
            return attempt.end(outcome_of_store_error(error));
        }
    };
    match fetched.model {
        Ok(model) => {
            context.claim_pause.report_success();
            let fetched = FetchedImage {
                attempt,
                model,
                bytes,
            };
            // Fails only when the process ends. Then the dropped attempt releases its job.
            drop(to_decode.send(fetched).await);
        }
        Err(LoadError::Unavailable(cause)) => {
            context.claim_pause.report_outage(&cause);
            attempt.end(Outcome::Release);
        }
        Err(LoadError::TooLarge(cause)) => {
            let error = StageError::new(ProblemCode::OutOfMemory, "the model does not fit");
            attempt.end(Outcome::Retry(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(error @ (LoadError::Broken(_) | LoadError::Unreliable(_))) => {
            let failed = StageError::new(ProblemCode::ModelError, "the model cannot be loaded");
            attempt.end(Outcome::Fail(failed.caused_by(error)));
        }
        Err(LoadError::DeviceLost(cause)) => attempt.abandon(&context.drain, &cause),
    }
}

fn outcome_of_store_error(error: StoreError) -> Outcome {
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
        StoreError::Unavailable(_) | StoreError::Refused(_) => Outcome::Release,
    }
}
