//! The decode stage: threads that decode and preprocess one image after the other, outside of the async runtime.
//!
//! A panic, a crash or a hang of a decoder fails one job only (docs/adr/0005-decoding.md, 0021-decoding-in-a-child.md).

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::Instant,
};

use decode::{Header, Warning};
use fast_image_resize::Resizer;
use jobs::{ProblemCode, job::StageError, manifest::InputSpec};
use tokio::sync::mpsc;

use super::{
    attempt::Outcome,
    context::StageContext,
    decoder::{Decoder, refused},
    fetch::FetchedImage,
    forward_batch::{Batcher, PreprocessedImage},
    placement::Placement,
    preprocess::{preprocess, shrink},
    stage::{Stage, Timings},
};
use crate::panic_message::panic_message;

/// Decodes and preprocesses images until the channel is closed.
pub(super) fn decode_images(
    context: &StageContext,
    fetched: &Mutex<mpsc::Receiver<FetchedImage>>,
    batcher: &Batcher<PreprocessedImage>,
    mut decoder: Decoder,
) {
    let mut resizer = Resizer::default();
    // Before the first image, so that no image waits for the start.
    decoder.wait_until_running(&context.drain);
    loop {
        // One thread waits for the next image and holds the lock; the other threads wait for the lock.
        let next = fetched
            .lock()
            .expect("no panic while it is held")
            .blocking_recv();
        let Some(FetchedImage {
            attempt,
            model,
            bytes,
        }) = next
        else {
            return;
        };
        let Some(mut attempt) = attempt.if_wanted(&context.drain) else {
            continue;
        };
        if !decoder.wait_until_running(&context.drain) {
            attempt.end(Outcome::Release);
            continue;
        }
        let mut timings = attempt.timings;
        let preprocessed = catch_unwind(AssertUnwindSafe(|| {
            decode_and_preprocess(
                &mut decoder,
                &mut resizer,
                &mut timings,
                context,
                &model.manifest.input,
                &bytes,
            )
        }));
        attempt.timings = timings;
        let preprocessed = preprocessed.unwrap_or_else(|panic| {
            resizer = Resizer::default(); // the panic may have left its buffers half-written
            Err(Outcome::Fail(
                StageError::new(
                    ProblemCode::ImageUndecodable,
                    "the image is damaged or of an unusual kind",
                )
                .caused_by(anyhow::anyhow!(
                    "the decode stage panicked: {}",
                    panic_message(&*panic)
                )),
            ))
        });
        match preprocessed {
            Ok((pixels, placement, warnings)) => {
                attempt.input_warnings = warnings;
                batcher.push(PreprocessedImage {
                    runs_alone: attempt.claim.interruptions > 0,
                    attempt,
                    model,
                    pixels,
                    placement,
                    waiting_since: Instant::now(),
                });
            }
            Err(outcome) => attempt.end(outcome),
        }
    }
}

/// The input of the model, where the image lies in it, and what is wrong with the file.
type Preprocessed = (Vec<u8>, Placement, Vec<Warning>);

fn decode_and_preprocess(
    decoder: &mut Decoder,
    resizer: &mut Resizer,
    timings: &mut Timings,
    context: &StageContext,
    input: &InputSpec,
    bytes: &[u8],
) -> Result<Preprocessed, Outcome> {
    let header = Header::read(Cursor::new(bytes), &context.limits).map_err(refused)?;
    let (width, height) = header.upright_size();
    let scale_min = shrink(input, width, height);
    let decode_bytes = header.decode_bytes(scale_min);
    context.limits.check(&header).map_err(refused)?;
    context.limits.check_bytes(decode_bytes).map_err(refused)?;
    let taken = context.decode_budget.take(decode_bytes, &context.drain);
    let _taken = taken.ok_or(Outcome::Release)?;
    let image = timings.measure(Stage::Decode, || decoder.decode(bytes, &header, scale_min))?;
    let placement = Placement::of(input, width, height);
    let preprocess = || preprocess(resizer, image.view(), input, &placement);
    let pixels = timings.measure(Stage::Preprocess, preprocess);
    let warnings = image.finish();
    Ok((pixels.map_err(Outcome::Fail)?, placement, warnings))
}
