//! Loading one version and warming it up: the first passes are slow, and the best batch is measured for a beginning.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jobs::manifest::{Manifest, Precision};

use super::{LoadFault, Model, best_batch::BestBatch, model::give_back_freed_memory};
use crate::pipeline::{Device, ForwardError, Program, postprocess::check, ready_thread};

/// A larger batch must gain at least so much an image; all else is longer waiting for nothing.
const GAIN_LEAST: f64 = 1.05;
/// Of a thread for each size of a batch. The fastest counts, of the slowest thread: whoever ends last may have had the
/// machine to itself.
const SAMPLES: usize = 2;
/// A sample is of so many images, in as many passes as it takes: a short one would sooner find a quiet moment.
const SAMPLE_IMAGES: usize = 4;

/// All that loading needs; blocking.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub version_id: i64,
    pub reference: String,
    pub manifest: Manifest,
    pub labels: Vec<String>,
    pub artifact: PathBuf,
    pub bytes: u64,
    pub device: Device,
    pub precision: Precision,
    pub batch_max: usize,
    pub infer_threads: usize,
}

impl Load {
    pub(super) fn load(self) -> Result<Model, LoadFault> {
        ready_thread(0);
        let program = Program::load(
            &self.artifact,
            &self.manifest,
            self.device,
            self.precision,
            self.batch_max,
        );
        let fault = |error| self.fault(error);
        let program = program.map_err(fault)?;
        let gray = vec![128; program.image_bytes()];
        let outputs = program.forward(&[&gray]).map_err(fault)?;
        let shape = outputs
            .first()
            .map_or(&[][..], |output| output.shape.as_ref());
        check(&self.manifest, &self.labels, shape).map_err(LoadFault::Broken)?;
        let batch_best = self.best_batch(&program, &gray).map_err(fault)?;
        give_back_freed_memory(); // of loading and measuring
        tracing::info!(
            model = self.manifest.name,
            device = %self.device,
            precision = %self.precision,
            batch.images = batch_best,
            "warm"
        );
        Ok(Model {
            version_id: self.version_id,
            reference: self.reference,
            manifest: self.manifest,
            labels: self.labels,
            batch: BestBatch::new(batch_best, program.batch_sizes(), self.infer_threads),
            program,
            precision: self.precision,
            bytes: self.bytes,
        })
    }

    /// Larger batches for as long as that pays.
    fn best_batch(&self, program: &Program, gray: &[u8]) -> Result<usize, ForwardError> {
        let (mut best, mut each) = (1, f64::INFINITY);
        for &size in program.batch_sizes() {
            let batch = vec![gray; size];
            let took = match self.takes(program, &batch) {
                Ok(took) => took,
                // One image a thread must fit on all of them at once.
                Err(error) if each.is_infinite() => return Err(error),
                Err(_) => break,
            };
            let took_each = took.as_secs_f64() / size as f64;
            tracing::debug!(batch.images = size, each_ms = took_each * 1e3, "measured");
            if took_each * GAIN_LEAST > each {
                break;
            }
            (best, each) = (size, took_each);
        }
        Ok(best)
    }

    /// How long a pass takes while the other inference threads run one, as at load: they share caches and memory. What was
    /// best for one thread alone (batches of 4) cost two of them 17.3 ms an image instead of 14.5.
    fn takes(&self, program: &Program, batch: &[&[u8]]) -> Result<Duration, ForwardError> {
        let passes = (SAMPLE_IMAGES / batch.len()).max(1);
        let sample = || {
            let began = Instant::now();
            (0..passes).try_for_each(|_| program.forward(batch).map(drop))?;
            Ok(began.elapsed() / passes as u32)
        };
        let fastest = |number| -> Result<Duration, ForwardError> {
            ready_thread(number);
            program.forward(batch)?; // warms the thread's memory up
            let samples = (0..SAMPLES).map(|_| sample());
            let samples: Vec<_> = samples.collect::<Result<_, ForwardError>>()?;
            Ok(samples.into_iter().min().unwrap_or_default())
        };
        std::thread::scope(|scope| {
            let threads =
                (0..self.infer_threads).map(|number| scope.spawn(move || fastest(number)));
            let threads: Vec<_> = threads.collect();
            let took = threads.into_iter().map(|thread| {
                let panicked = |_| Err(ForwardError::Failed("a forward pass panicked".into()));
                thread.join().unwrap_or_else(panicked)
            });
            let took: Vec<_> = took.collect::<Result<_, _>>()?;
            Ok(took.into_iter().max().unwrap_or_default())
        })
    }

    fn fault(&self, error: ForwardError) -> LoadFault {
        match error {
            ForwardError::OutOfMemory(cause) => LoadFault::TooLarge(cause),
            // Another worker's limit of the folder may be lower than ours.
            ForwardError::Failed(_) if !self.artifact.exists() => {
                LoadFault::Unavailable("the model's file is gone from the cache".into())
            }
            // After some faults of a kernel a GPU answers nothing any more: then the artifact need not be to blame.
            ForwardError::Failed(cause) if self.device.answers() => LoadFault::Broken(cause),
            ForwardError::Failed(cause) | ForwardError::DeviceLost(cause) => {
                LoadFault::DeviceLost(cause)
            }
        }
    }
}
