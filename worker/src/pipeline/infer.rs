//! Inference: batch after batch through the device, one thread beside the other.

pub mod device;
mod launch;
mod libtorch;
mod optimize;
pub mod program;
mod upload;

use std::time::{Duration, Instant};

use jobs::{ProblemCode, job::StageError};
use nix::time::{ClockId, clock_gettime};
use program::ForwardError;

use super::{
    Outcome, Shared, Stage, Work,
    batch::{Batcher, Passed, Ready, pass},
    placement::Placement,
    postprocess::{Output, predict},
    store::Storer,
};
use crate::models::Model;

/// Takes batches and infers them, for as long as the process lives.
pub(super) fn infer_batches(shared: &Shared, batcher: &Batcher<Ready>, storer: &Storer) {
    loop {
        let mut batch = batcher.take();
        let images = std::mem::take(&mut batch.images).into_iter();
        let wanted = images.filter_map(|image| {
            let mut work = image.work.if_wanted_on_the_device(&shared.drain)?;
            work.timings.record(Stage::BatchWait, image.since.elapsed());
            Some(Ready { work, ..image })
        });
        let wanted: Vec<Ready> = wanted.collect();
        if let Some(first) = wanted.first() {
            let model = first.model.clone();
            infer(shared, storer, &model, wanted);
        }
    }
}

fn infer(shared: &Shared, storer: &Storer, model: &Model, images: Vec<Ready>) {
    let pixels: Vec<&[u8]> = images.iter().map(|image| image.pixels.as_slice()).collect();
    let passed = pass(&pixels, &mut |part: &[&[u8]]| {
        forward(model, part).inspect_err(|error| halved(error, part.len()))
    });
    for (image, passed) in images.into_iter().zip(passed) {
        settle(shared, storer, model, image.work, &image.placement, passed);
    }
}

/// What failed together is tried in halves: said once for each halving.
fn halved(error: &ForwardError, images: usize) {
    if images > 1 && !matches!(error, ForwardError::DeviceLost(_)) {
        metrics::counter!("darkroom_batch_splits_total").increment(1);
        tracing::warn!(batch.images = images, error.cause = %error, "a batch failed: trying its halves");
    }
}

/// One forward pass, timed; each output comes with the time of its pass.
fn forward(model: &Model, part: &[&[u8]]) -> Result<Vec<(Output, Duration)>, ForwardError> {
    let (began, cpu_began) = (Instant::now(), cpu_time());
    let outputs = model.program.forward(part);
    let took = began.elapsed();
    Stage::Infer.observe(took);
    metrics::histogram!("darkroom_batch_size").record(part.len() as f64);
    match outputs {
        Ok(outputs) => {
            // On a GPU it is another's time, and what was measured at load is no guess.
            if !model.program.is_on_gpu() {
                model.passed(part.len(), cpu_time().saturating_sub(cpu_began));
            }
            Ok(outputs.into_iter().map(|output| (output, took)).collect())
        }
        Err(ForwardError::OutOfMemory(cause)) => {
            model.too_much_at_once(part.len());
            Err(ForwardError::OutOfMemory(cause))
        }
        // After some faults of a kernel a GPU answers nothing any more: then no image is to blame yet.
        Err(ForwardError::Failed(cause))
            if model.program.is_on_gpu() && !model.program.answers() =>
        {
            Err(ForwardError::DeviceLost(cause))
        }
        Err(error) => Err(error),
    }
}

/// What this thread has used of its core: others may have had it in between. Inference has one thread a pass.
fn cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

fn settle(
    shared: &Shared,
    storer: &Storer,
    model: &Model,
    mut work: Work,
    placement: &Placement,
    passed: Passed<(Output, Duration)>,
) {
    let (output, took) = match passed.output {
        Ok(output) => output,
        Err(ForwardError::OutOfMemory(cause)) => {
            let error = StageError::new(ProblemCode::OutOfMemory, "the device ran out of memory");
            return work.settle(Outcome::Retry(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(ForwardError::Failed(cause)) => {
            let error = StageError::new(ProblemCode::ModelError, "the model failed on this image");
            return work.settle(Outcome::Fail(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(ForwardError::DeviceLost(cause)) => return work.abandon(&shared.drain, &cause),
    };
    work.timings.note(Stage::Infer, took);
    let mut timings = work.timings;
    let predicted = timings.measure(Stage::Postprocess, || {
        predict(
            &model.manifest,
            &model.labels,
            &output,
            placement,
            &work.claim.params,
        )
    });
    work.timings = timings;
    match predicted {
        Ok(predicted) => storer.settle(
            work,
            predicted,
            model.other_precision(),
            passed.batch_size,
            passed.batch_position,
        ),
        Err(error) => work.settle(Outcome::Fail(error)),
    }
}
