//! The decode stage: threads that decode and preprocess one image after the other, outside of the async runtime.
//!
//! A panic of a decoder fails one job only (docs/adr/0005-decoding.md).

use std::{
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::Instant,
};

use decode::{Decoded, Header, Reason, Refusal, Request, Warning};
use fast_image_resize::Resizer;
use jobs::{
    ProblemCode,
    job::StageError,
    manifest::{self, InputSpec},
};
use tokio::sync::mpsc;

use super::{
    attempt::Outcome,
    context::StageContext,
    fetch::FetchedImage,
    forward_batch::{Batcher, PreprocessedImage},
    placement::Placement,
    preprocess::{preprocess, shrink},
    stage::{Stage, Timings},
};
use crate::panic_message::panic_message;

/// Most bytes of pixels that a thread keeps for its next image. A photo, scaled for a model, needs less.
const PIXEL_BUFFER_BYTES_MAX: usize = 16 << 20;

/// Decodes and preprocesses images until the channel is closed.
pub(super) fn decode_images(
    context: &StageContext,
    fetched: &Mutex<mpsc::Receiver<FetchedImage>>,
    batcher: &Batcher<PreprocessedImage>,
) {
    let mut buffers = Buffers::default();
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
        let mut timings = attempt.timings;
        let preprocessed = catch_unwind(AssertUnwindSafe(|| {
            decode_and_preprocess(
                &mut buffers,
                &mut timings,
                context,
                &model.manifest.input,
                &bytes,
            )
        }));
        attempt.timings = timings;
        let preprocessed = preprocessed.unwrap_or_else(|panic| {
            buffers = Buffers::default(); // the panic may have left its buffers half-written
            Err(StageError::new(
                ProblemCode::ImageUndecodable,
                "the image is damaged or of an unusual kind",
            )
            .caused_by(anyhow::anyhow!(
                "a decoder panicked: {}",
                panic_message(&*panic)
            )))
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
            Err(error) => attempt.end(Outcome::Fail(error)),
        }
    }
}

/// Buffers that a thread reuses for its next image.
#[derive(Debug, Default)]
struct Buffers {
    resizer: Resizer,
    /// The memory of the pixels of the last image.
    pixels: Vec<u8>,
}

fn decode_and_preprocess(
    buffers: &mut Buffers,
    timings: &mut Timings,
    context: &StageContext,
    input: &InputSpec,
    bytes: &[u8],
) -> Result<(Vec<u8>, Placement, Vec<Warning>), StageError> {
    let memory = std::mem::take(&mut buffers.pixels);
    let (width, height, decoded) = timings.measure(Stage::Decode, || {
        let header = Header::read(Cursor::new(bytes), &context.limits).map_err(stage_error)?;
        let (width, height) = header.upright_size();
        let request = Request {
            scale_min: shrink(input, width, height),
            color: match input.color {
                manifest::Color::Srgb => decode::Color::Srgb,
                manifest::Color::Raw => decode::Color::Raw,
            },
        };
        let decoded = decode::decode(bytes, &header, request, &context.limits, memory);
        Ok((width, height, decoded.map_err(stage_error)?))
    })?;
    let Decoded {
        pixels: image,
        warnings,
    } = decoded;
    let placement = Placement::of(input, width, height);
    let preprocess = || preprocess(&mut buffers.resizer, &image, input, &placement);
    let pixels = timings.measure(Stage::Preprocess, preprocess);
    buffers.pixels = image.into_raw();
    // Otherwise the memory of a huge image would stay as long as the thread.
    if buffers.pixels.capacity() > PIXEL_BUFFER_BYTES_MAX {
        buffers.pixels = Vec::new();
    }
    Ok((pixels?, placement, warnings))
}

fn stage_error(refusal: Refusal) -> StageError {
    let code = match refusal.reason {
        Reason::UnsupportedFormat => ProblemCode::UnsupportedMediaType,
        Reason::TooManyPixels => ProblemCode::ImageTooManyPixels,
        Reason::Undecodable => ProblemCode::ImageUndecodable,
    };
    let detail = refusal.detail.clone();
    StageError::new(code, detail).caused_by(refusal)
}
