//! The inference stage: threads that run forward batches and postprocess their outputs.

use std::time::{Duration, Instant};

use jobs::{ProblemCode, job::StageError};
use nix::time::{ClockId, clock_gettime};

use super::{
    attempt::{Attempt, Outcome},
    context::StageContext,
    forward_batch::{Batcher, Halved, PassResult, PreprocessedImage, forward_or_halve},
    placement::Placement,
    postprocess::predict,
    stage::Stage,
    store::Storer,
};
use crate::{
    models::Model,
    torch::{ForwardError, Output},
};

/// Takes forward batches and runs them. Never returns.
pub(super) fn run_forward_batches(
    context: &StageContext,
    batcher: &Batcher<PreprocessedImage>,
    storer: &Storer,
) {
    loop {
        let mut batch = batcher.take();
        let images = std::mem::take(&mut batch.images).into_iter();
        let wanted = images.filter_map(|image| {
            let mut attempt = image.attempt.if_wanted_on_device(&context.drain)?;
            let waited = image.waiting_since.elapsed();
            attempt.timings.record(Stage::BatchWait, waited);
            Some(PreprocessedImage { attempt, ..image })
        });
        let wanted: Vec<PreprocessedImage> = wanted.collect();
        if let Some(first) = wanted.first() {
            let model = first.model.clone();
            run_forward_batch(context, storer, &model, wanted);
        }
    }
}

fn run_forward_batch(
    context: &StageContext,
    storer: &Storer,
    model: &Model,
    images: Vec<PreprocessedImage>,
) {
    let pixels: Vec<&[u8]> = images.iter().map(|image| image.pixels.as_slice()).collect();
    let halved = forward_or_halve(&pixels, &mut |part: &[&[u8]]| {
        forward(model, part).inspect_err(|error| report_halving(error, part.len()))
    });
    let Halved {
        results,
        failing_size,
    } = halved;
    if let Some(failing) = failing_size {
        model.record_failing_size(failing.images, failing.works_up_to, failing.cause);
    }
    for (image, result) in images.into_iter().zip(results) {
        end_attempt(
            context,
            storer,
            model,
            image.attempt,
            &image.placement,
            result,
        );
    }
}

/// Logs and counts that a forward batch failed and its halves are next.
fn report_halving(error: &ForwardError, images: usize) {
    if images > 1 && !matches!(error, ForwardError::DeviceLost(_)) {
        metrics::counter!("darkroom_batch_splits_total").increment(1);
        tracing::warn!(batch.images = images, error.cause = %error, "a batch failed: trying its halves");
    }
}

/// Runs one forward pass. Each output comes with the time of the pass.
fn forward(model: &Model, part: &[&[u8]]) -> Result<Vec<(Output, Duration)>, ForwardError> {
    let (began, cpu_before) = (Instant::now(), thread_cpu_time());
    let outputs = model.program.forward(part);
    let took = began.elapsed();
    Stage::Infer.observe(took);
    metrics::histogram!("darkroom_batch_size").record(part.len() as f64);
    match outputs {
        Ok(outputs) => {
            // The pass on a GPU takes no CPU time, and the measurement at load is accurate there.
            if !model.program.is_on_gpu() {
                model.record_pass(part.len(), thread_cpu_time().saturating_sub(cpu_before));
            }
            Ok(outputs.into_iter().map(|output| (output, took)).collect())
        }
        Err(ForwardError::OutOfMemory(cause)) => {
            model.record_out_of_memory(part.len());
            Err(ForwardError::OutOfMemory(cause))
        }
        // After some kernel faults a GPU fails for all passes. Then it is not known which image is the cause.
        Err(ForwardError::Failed(cause))
            if model.program.is_on_gpu() && !model.program.responds() =>
        {
            Err(ForwardError::DeviceLost(cause))
        }
        Err(error) => Err(error),
    }
}

/// CPU time of this thread so far. The wall time of a pass would include the time of other threads on the core.
fn thread_cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

fn end_attempt(
    context: &StageContext,
    storer: &Storer,
    model: &Model,
    mut attempt: Attempt,
    placement: &Placement,
    result: PassResult<(Output, Duration)>,
) {
    let (output, took) = match result.output {
        Ok(output) => output,
        Err(ForwardError::OutOfMemory(cause)) => {
            let error = StageError::new(ProblemCode::OutOfMemory, "the device ran out of memory");
            return attempt.end(Outcome::Retry(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(ForwardError::Failed(cause)) => {
            let error = StageError::new(ProblemCode::ModelError, "the model failed on this image");
            return attempt.end(Outcome::Fail(error.caused_by(anyhow::anyhow!(cause))));
        }
        Err(ForwardError::DeviceLost(cause)) => return attempt.abandon(&context.drain, &cause),
    };
    attempt.timings.set(Stage::Infer, took);
    let mut timings = attempt.timings;
    let predicted = timings.measure(Stage::Postprocess, || {
        predict(
            &model.manifest,
            &model.labels,
            &output,
            placement,
            &attempt.claim.params,
        )
    });
    attempt.timings = timings;
    match predicted {
        Ok(predicted) => storer.end_attempt(
            attempt,
            predicted,
            model.remarks(),
            result.batch_size,
            result.batch_position,
        ),
        Err(error) => attempt.end(Outcome::Fail(error)),
    }
}
