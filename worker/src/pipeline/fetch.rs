//! The fetch stage: gets the image from S3 and checks its digest, while the model is loaded if needed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use jobs::{
    ProblemCode,
    db::answered,
    images::{self, object_key},
    job::StageError,
    object_store::StoreError,
};
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
        Err(error @ (StoreError::Missing(_) | StoreError::Corrupt(_))) => {
            return postpone(context, attempt, error).await;
        }
        Err(error @ (StoreError::Unavailable(_) | StoreError::Refused(_))) => {
            context.claim_pause.report_outage(&error.to_string());
            return attempt.end(Outcome::Release);
        }
    };
    match fetched.model {
        Ok(model) => {
            context.claim_pause.report_success();
            context.store_faults.report_success();
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
        Err(LoadError::Absent(cause)) => {
            report_fault(context, &cause);
            let detail = "the object store does not have the model; the service tries again";
            let absent = StageError::new(ProblemCode::ServiceUnavailable, detail);
            attempt.end(Outcome::Postpone(absent.caused_by(anyhow::anyhow!(cause))));
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

/// Ends the attempt of a job whose image the store lacks or has with other bytes. A live job keeps its image, so this is no fault
/// of the client.
async fn postpone(context: &StageContext, attempt: Attempt, error: StoreError) {
    // Other bytes say nothing about the bucket: on a store that does not check digests, the owner can have written them.
    if let StoreError::Missing(_) = &error {
        report_fault(context, &error.to_string());
    }
    // The report comes first: a client that sees this attempt can put the image back.
    let claim = &attempt.claim;
    let (sha256, upload) = (claim.image_sha256, claim.image_upload);
    let report = images::report(&context.db, &claim.owner, sha256, upload);
    if let Err(error) = answered(&context.db, report).await {
        tracing::debug!(error.cause = %error, "cannot report a missing image");
    }
    let detail = "the object store does not have the image of the job; the service tries again";
    let absent = StageError::new(ProblemCode::ServiceUnavailable, detail);
    attempt.end(Outcome::Postpone(absent.caused_by(error)));
}

/// Records that an object is missing. After too many in a row, claims pause.
fn report_fault(context: &StageContext, fault: &str) {
    if context.store_faults.report(fault.to_owned()) {
        context.claim_pause.report_faults(fault);
    }
}
