//! The threads that decode and preprocess: off the async threads, one image after the other.
//!
//! A panic of a decoder costs one image and nothing else.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::Instant,
};

use fast_image_resize::Resizer;
use jobs::{ProblemCode, job::StageError};
use tokio::sync::mpsc;

use super::{
    Outcome, Shared, Stage, Timings,
    batch::{Batcher, Ready},
    decode::decode,
    fetch::Fetched,
    placement::Placement,
    preprocess::{preprocess, shrink},
};

/// Pixels of a photo at the scale that a model looks at; what is larger is given back.
const MEMORY_KEPT_MAX: usize = 16 << 20;

/// Develops images until there are no more.
pub(super) fn develop_images(
    shared: &Shared,
    fetched: &Mutex<mpsc::Receiver<Fetched>>,
    batcher: &Batcher<Ready>,
) {
    let mut tools = Tools::default();
    loop {
        // Whoever waits for the next image holds the lock; the others wait for the lock.
        let next = fetched
            .lock()
            .expect("no panic while it is held")
            .blocking_recv();
        let Some(Fetched { work, model, bytes }) = next else {
            return;
        };
        let Some(mut work) = work.if_wanted(&shared.drain) else {
            continue;
        };
        let mut timings = work.timings;
        let developed = catch_unwind(AssertUnwindSafe(|| {
            develop(
                &mut tools,
                &mut timings,
                shared,
                &model.manifest.input,
                &bytes,
            )
        }));
        work.timings = timings;
        let developed = developed.unwrap_or_else(|panic| {
            tools = Tools::default(); // its buffers may be half-written
            Err(StageError::new(
                ProblemCode::ImageUndecodable,
                "the image is damaged or of an unusual kind",
            )
            .caused_by(anyhow::anyhow!("a decoder panicked: {}", message(&*panic))))
        });
        match developed {
            Ok((pixels, placement)) => batcher.push(Ready {
                alone: work.claim.interruptions > 0,
                work,
                model,
                pixels,
                placement,
                since: Instant::now(),
            }),
            Err(error) => work.settle(Outcome::Fail(error)),
        }
    }
}

/// What one thread keeps from one image to the next, so that it need not be made anew.
#[derive(Debug, Default)]
struct Tools {
    resizer: Resizer,
    /// Of the pixels of the last image.
    memory: Vec<u8>,
}

fn develop(
    tools: &mut Tools,
    timings: &mut Timings,
    shared: &Shared,
    input: &jobs::manifest::InputSpec,
    bytes: &[u8],
) -> Result<(Vec<u8>, Placement), StageError> {
    // A JPEG may come out smaller than it is: then this is where its full size is heard of.
    let full = Cell::new(None);
    let shrink = |width, height| {
        full.set(Some((width, height)));
        shrink(input, width, height)
    };
    let memory = std::mem::take(&mut tools.memory);
    let decoded = || decode(bytes, &shared.limits, &shrink, memory);
    let image = timings.measure(Stage::Decode, decoded)?;
    let (width, height) = full.get().unwrap_or(image.dimensions());
    let placement = Placement::of(input, width, height);
    let preprocessed = || preprocess(&mut tools.resizer, &image, input, &placement);
    let pixels = timings.measure(Stage::Preprocess, preprocessed);
    tools.memory = image.into_raw();
    // That of a huge image would be kept for as long as the thread lives.
    if tools.memory.capacity() > MEMORY_KEPT_MAX {
        tools.memory = Vec::new();
    }
    Ok((pixels?, placement))
}

/// What a panic said.
pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
