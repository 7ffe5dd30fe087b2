//! The settings of the pipeline: what the operator set, and defaults that fit the machine and the device.

use std::time::Duration;

use crate::{config::Config, torch::Device};

/// How wide the stages are, and how long they wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct PipelineSettings {
    /// Most images of a forward batch.
    pub batch_max: usize,
    pub batch_wait: Duration,
    pub decode_threads: usize,
    pub infer_threads: usize,
    pub fetch_concurrency: usize,
    /// Most jobs held at the same time: the number of places in the pipeline.
    pub places: usize,
    /// With this many held jobs all stages stay busy for a moment.
    pub busy_jobs: usize,
    pub complete_wait: Duration,
    /// Longest time between two claims without a wake-up.
    pub poll_interval: Duration,
}

impl PipelineSettings {
    pub(super) fn new(config: &Config, device: Device) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let on_gpu = device.is_gpu();
        let tuning = &config.tuning;
        let or = |set: Option<u16>, default: usize| set.map_or(default, usize::from);
        let batch_max = or(tuning.batch_max, if on_gpu { 64 } else { 8 });
        let infer_threads = or(tuning.infer_threads, if on_gpu { 2 } else { cores });
        let batch_wait_ms = tuning.batch_wait_ms.unwrap_or(if on_gpu { 2 } else { 0 });
        let places = or(tuning.claim_ahead, 4 * batch_max * infer_threads);
        Self {
            batch_max,
            batch_wait: Duration::from_millis(batch_wait_ms),
            decode_threads: or(tuning.decode_threads, cores),
            infer_threads,
            fetch_concurrency: tuning.fetch_concurrency.into(),
            places,
            busy_jobs: places / 8,
            complete_wait: Duration::from_millis(tuning.complete_wait_ms),
            poll_interval: Duration::from_millis(tuning.poll_ms),
        }
    }
}
