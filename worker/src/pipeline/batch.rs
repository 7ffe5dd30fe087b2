//! Batching: whoever has a free device takes all that is there of one model version, up to the best batch.
//!
//! So a lone image never waits, and under load batches fill by themselves while the device is busy.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{ForwardError, Placement, Work};
use crate::models::Model;

/// What the batcher must know of an image.
pub(super) trait Batchable {
    /// Only images of the same version share a forward pass.
    fn version(&self) -> i64;
    /// Takes no neighbours along.
    fn alone(&self) -> bool;
    fn since(&self) -> Instant;
    /// Most images of its batch.
    fn batch_most(&self) -> usize;
}

/// A job whose image is the model's input by now.
#[derive(Debug)]
pub(super) struct Ready {
    pub work: Work,
    pub model: Arc<Model>,
    /// `u8[height, width, 3]`.
    pub pixels: Vec<u8>,
    pub placement: Placement,
    /// Its last attempt ended with a dead worker: this image may be why.
    pub alone: bool,
    pub since: Instant,
}

impl Batchable for Ready {
    fn version(&self) -> i64 {
        self.model.version_id
    }

    fn alone(&self) -> bool {
        self.alone
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn batch_most(&self) -> usize {
        self.model.batch_next()
    }
}

#[derive(Debug)]
struct Waiting<T> {
    queues: HashMap<i64, VecDeque<T>>,
    /// Forward passes under way.
    busy: usize,
}

/// Images that wait for a device, by model version. The room bounds how many.
#[derive(Debug)]
pub(super) struct Batcher<T> {
    waiting: Mutex<Waiting<T>>,
    news: Condvar,
    wait: Duration,
}

/// A batch on its way through the device; its end is news for a thread that waits for company.
#[derive(Debug)]
pub(super) struct Batch<'a, T> {
    pub images: Vec<T>,
    batcher: &'a Batcher<T>,
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        self.batcher.waiting().busy -= 1;
        self.batcher.news.notify_one();
    }
}

impl<T> Batcher<T> {
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                queues: HashMap::new(),
                busy: 0,
            }),
            news: Condvar::new(),
            wait,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect("no panic while it is held")
    }
}

impl<T: Batchable> Batcher<T> {
    pub(super) fn push(&self, image: T) {
        let mut waiting = self.waiting();
        waiting
            .queues
            .entry(image.version())
            .or_default()
            .push_back(image);
        drop(waiting);
        self.news.notify_one();
    }

    /// Waits for images and takes a batch of the version whose oldest image has waited longest.
    ///
    /// While other batches are on the device, an incomplete one waits a little for company: the device is busy anyway.
    pub(super) fn take(&self) -> Batch<'_, T> {
        let mut waiting = self.waiting();
        loop {
            let Some((version, since)) = waiting.oldest() else {
                waiting = self.news.wait(waiting).expect("no panic while it is held");
                continue;
            };
            let left = self.wait.saturating_sub(since.elapsed());
            if waiting.busy > 0 && !left.is_zero() && !waiting.is_full(version) {
                let woken = self.news.wait_timeout(waiting, left);
                waiting = woken.expect("no panic while it is held").0;
                continue;
            }
            let images = waiting.take(version);
            waiting.busy += 1;
            return Batch {
                images,
                batcher: self,
            };
        }
    }
}

impl<T: Batchable> Waiting<T> {
    fn oldest(&self) -> Option<(i64, Instant)> {
        let heads = self
            .queues
            .iter()
            .filter_map(|(version, queue)| Some((*version, queue.front()?.since())));
        heads.min_by_key(|(_, since)| *since)
    }

    fn is_full(&self, version: i64) -> bool {
        self.queues
            .get(&version)
            .and_then(|queue| queue.front().map(|head| (queue, head)))
            .is_some_and(|(queue, head)| {
                queue.len() >= head.batch_most() || queue.iter().any(Batchable::alone)
            })
    }

    fn take(&mut self, version: i64) -> Vec<T> {
        let mut batch = Vec::new();
        let Some(queue) = self.queues.get_mut(&version) else {
            return batch;
        };
        let most = queue.front().map_or(1, Batchable::batch_most).max(1);
        while batch.len() < most
            && queue
                .front()
                .is_some_and(|next| batch.is_empty() || !next.alone())
            && let Some(next) = queue.pop_front()
        {
            let alone = next.alone();
            batch.push(next);
            if alone {
                break;
            }
        }
        if queue.is_empty() {
            self.queues.remove(&version);
        }
        batch
    }
}

/// What a forward pass made of one image, and with how many others.
#[derive(Debug, PartialEq)]
pub(super) struct Passed<O> {
    pub output: Result<O, ForwardError>,
    pub batch_size: usize,
    pub batch_position: usize,
}

/// One forward pass: an output for each image, in order, or none at all.
pub(super) type Forward<'a, I, O> = dyn FnMut(&[I]) -> Result<Vec<O>, ForwardError> + 'a;

/// Runs `images` through `forward`, all at once if it can be: a pass that fails is halved until the guilty image is found,
/// and one that needs too much memory until it fits. Answers in the order of `images`.
pub(super) fn pass<I, O>(images: &[I], forward: &mut Forward<'_, I, O>) -> Vec<Passed<O>> {
    match forward(images) {
        Ok(outputs) => {
            let passed = outputs
                .into_iter()
                .enumerate()
                .map(|(position, output)| Passed {
                    output: Ok(output),
                    batch_size: images.len(),
                    batch_position: position,
                });
            passed.collect()
        }
        Err(error) if images.len() <= 1 || matches!(error, ForwardError::DeviceLost(_)) => {
            let passed = (0..images.len()).map(|position| Passed {
                output: Err(error.clone()),
                batch_size: images.len(),
                batch_position: position,
            });
            passed.collect()
        }
        Err(_) => {
            let (first, second) = images.split_at(images.len().div_ceil(2));
            let mut passed = pass(first, forward);
            passed.extend(pass(second, forward));
            passed
        }
    }
}

#[cfg(test)]
mod tests;
