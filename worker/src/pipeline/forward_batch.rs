//! Dynamic batching: an inference thread takes all waiting images of one model version, up to the best batch.
//!
//! So an image on an idle device never waits. Under load forward batches fill while the device is busy.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{attempt::Attempt, placement::Placement};
use crate::{models::Model, torch::ForwardError};

/// What the batcher must know about an image. Tests use images without a job and a model.
pub(super) trait Batchable {
    /// Only images of one model version share a forward pass.
    fn version_id(&self) -> i64;
    /// Whether the image must be the only one of its forward batch.
    fn runs_alone(&self) -> bool;
    fn waiting_since(&self) -> Instant;
    /// Most images of its forward batch.
    fn batch_max(&self) -> usize;
}

/// An attempt whose image is ready for the forward pass.
#[derive(Debug)]
pub(super) struct PreprocessedImage {
    pub attempt: Attempt,
    pub model: Arc<Model>,
    /// `u8[height, width, 3]`.
    pub pixels: Vec<u8>,
    pub placement: Placement,
    /// An earlier attempt was lost with its worker: this image may be the cause.
    pub runs_alone: bool,
    pub waiting_since: Instant,
}

impl Batchable for PreprocessedImage {
    fn version_id(&self) -> i64 {
        self.model.version_id
    }

    fn runs_alone(&self) -> bool {
        self.runs_alone
    }

    fn waiting_since(&self) -> Instant {
        self.waiting_since
    }

    fn batch_max(&self) -> usize {
        self.model.next_batch()
    }
}

#[derive(Debug)]
struct WaitingImages<T> {
    /// By model version, oldest first.
    queues: HashMap<i64, VecDeque<T>>,
    /// Forward batches on the device.
    running: usize,
}

/// Images that wait for the device. The number of places in the pipeline bounds them.
#[derive(Debug)]
pub(super) struct Batcher<T> {
    waiting: Mutex<WaitingImages<T>>,
    /// Notified when an image arrives or a forward batch ends.
    changed: Condvar,
    /// How long a forward batch that is not full waits while the device is busy.
    wait: Duration,
}

/// A forward batch on the device. Its drop wakes a thread that waits for more images.
#[derive(Debug)]
pub(super) struct ForwardBatch<'a, T> {
    pub images: Vec<T>,
    batcher: &'a Batcher<T>,
}

impl<T> Drop for ForwardBatch<'_, T> {
    fn drop(&mut self) {
        self.batcher.waiting().running -= 1;
        self.batcher.changed.notify_one();
    }
}

impl<T> Batcher<T> {
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            waiting: Mutex::new(WaitingImages {
                queues: HashMap::new(),
                running: 0,
            }),
            changed: Condvar::new(),
            wait,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingImages<T>> {
        self.waiting.lock().expect("no panic while it is held")
    }
}

impl<T: Batchable> Batcher<T> {
    pub(super) fn push(&self, image: T) {
        let mut waiting = self.waiting();
        waiting
            .queues
            .entry(image.version_id())
            .or_default()
            .push_back(image);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for images, and takes a forward batch of the version whose oldest image has waited longest.
    ///
    /// While other forward batches are on the device, one that is not full waits a little for more images.
    pub(super) fn take(&self) -> ForwardBatch<'_, T> {
        let mut waiting = self.waiting();
        loop {
            let Some((version, waiting_since)) = waiting.oldest() else {
                waiting = self
                    .changed
                    .wait(waiting)
                    .expect("no panic while it is held");
                continue;
            };
            let left = self.wait.saturating_sub(waiting_since.elapsed());
            if waiting.running > 0 && !left.is_zero() && !waiting.is_full(version) {
                let woken = self.changed.wait_timeout(waiting, left);
                waiting = woken.expect("no panic while it is held").0;
                continue;
            }
            let images = waiting.take(version);
            waiting.running += 1;
            return ForwardBatch {
                images,
                batcher: self,
            };
        }
    }
}

impl<T: Batchable> WaitingImages<T> {
    fn oldest(&self) -> Option<(i64, Instant)> {
        let heads = self
            .queues
            .iter()
            .filter_map(|(version, queue)| Some((*version, queue.front()?.waiting_since())));
        heads.min_by_key(|(_, waiting_since)| *waiting_since)
    }

    fn is_full(&self, version: i64) -> bool {
        self.queues
            .get(&version)
            .and_then(|queue| queue.front().map(|head| (queue, head)))
            .is_some_and(|(queue, head)| {
                queue.len() >= head.batch_max() || queue.iter().any(Batchable::runs_alone)
            })
    }

    fn take(&mut self, version: i64) -> Vec<T> {
        let mut batch = Vec::new();
        let Some(queue) = self.queues.get_mut(&version) else {
            return batch;
        };
        let most = queue.front().map_or(1, Batchable::batch_max).max(1);
        while batch.len() < most
            && queue
                .front()
                .is_some_and(|next| batch.is_empty() || !next.runs_alone())
            && let Some(next) = queue.pop_front()
        {
            let runs_alone = next.runs_alone();
            batch.push(next);
            if runs_alone {
                break;
            }
        }
        if queue.is_empty() {
            self.queues.remove(&version);
        }
        batch
    }
}

/// The result of a forward pass for one image.
#[derive(Debug, PartialEq)]
pub(super) struct PassResult<O> {
    pub output: Result<O, ForwardError>,
    pub batch_size: usize,
    pub batch_position: usize,
}

/// One forward pass: returns one output for each image, in order, or one error for all.
pub(super) type Forward<'a, I, O> = dyn FnMut(&[I]) -> Result<Vec<O>, ForwardError> + 'a;

/// The results of a forward batch that was halved where it failed.
#[derive(Debug, PartialEq)]
pub(super) struct Halved<O> {
    /// One for each image, in order.
    pub results: Vec<PassResult<O>>,
    /// The smallest size that failed although no image is the cause.
    pub failing_size: Option<FailingSize>,
}

/// A forward batch that failed, while its parts succeeded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FailingSize {
    pub images: usize,
    /// Images of the largest part that succeeded.
    pub works_up_to: usize,
    pub cause: String,
}

/// Runs `images` through `forward`. Halves a forward batch that fails, until each failing image is alone or the rest fits into
/// memory.
pub(super) fn forward_or_halve<I, O>(images: &[I], forward: &mut Forward<'_, I, O>) -> Halved<O> {
    let results = match forward(images) {
        Ok(outputs) => {
            let results = outputs
                .into_iter()
                .enumerate()
                .map(|(position, output)| PassResult {
                    output: Ok(output),
                    batch_size: images.len(),
                    batch_position: position,
                });
            results.collect()
        }
        Err(error) if images.len() <= 1 || matches!(error, ForwardError::DeviceLost(_)) => {
            let results = (0..images.len()).map(|position| PassResult {
                output: Err(error.clone()),
                batch_size: images.len(),
                batch_position: position,
            });
            results.collect()
        }
        Err(error) => {
            let (first, second) = images.split_at(images.len().div_ceil(2));
            let (first, second) = (
                forward_or_halve(first, forward),
                forward_or_halve(second, forward),
            );
            let mut results = first.results;
            results.extend(second.results);
            let of_parts = [first.failing_size, second.failing_size].into_iter();
            let smallest = of_parts.flatten().min_by_key(|failing| failing.images);
            let failing_size = smallest.or_else(|| failing_size(images.len(), error, &results));
            return Halved {
                results,
                failing_size,
            };
        }
    };
    Halved {
        results,
        failing_size: None,
    }
}

/// The size of a forward batch that failed with `error`, if all its images succeeded in its parts. A size that runs out of
/// memory is known already.
fn failing_size<O>(
    images: usize,
    error: ForwardError,
    results: &[PassResult<O>],
) -> Option<FailingSize> {
    let ForwardError::Failed(cause) = error else {
        return None;
    };
    let have_succeeded = results.iter().all(|result| result.output.is_ok());
    let works_up_to = results.iter().map(|result| result.batch_size).max()?;
    have_succeeded.then_some(FailingSize {
        images,
        works_up_to,
        cause,
    })
}

#[cfg(test)]
mod tests;
