//! Loads one version and warms it up: the first passes are slow, and a first best batch is measured.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jobs::manifest::{Manifest, Precision, is_package};

use super::{OutputCheck, best_batch::BestBatch, load_error::LoadError, model::Model};
use crate::torch::{
    Device, ForwardError, Program, give_back_freed_memory, load_package, load_program,
    prepare_thread,
};

/// A larger forward batch must be faster by this factor for each image. Otherwise it only makes images wait longer.
const GAIN_LEAST: f64 = 1.05;
/// Samples of each thread for each size of a forward batch. The result is the fastest sample of the slowest thread: the last
/// thread may have had the machine for itself.
const SAMPLES: usize = 2;
/// Images of one sample, in one or more passes. A shorter sample is more likely to meet a quiet moment of the machine.
const SAMPLE_IMAGES: usize = 4;

/// All that a load needs.
#[derive(Debug, Clone)]
pub(super) struct Loader {
    pub version_id: i64,
    pub reference: String,
    pub manifest: Manifest,
    pub labels: Vec<String>,
    /// Name of the artifact in the manifest.
    pub artifact_name: String,
    pub artifact: PathBuf,
    pub bytes: u64,
    pub device: Device,
    pub precision: Precision,
    pub batch_max: usize,
    pub infer_threads: usize,
    pub check_output: OutputCheck,
}

impl Loader {
    /// Loads, warms up and measures the model. Blocks the thread for seconds.
    pub(super) fn load(self) -> Result<Model, LoadError> {
        prepare_thread(0);
        let load_error = |error| self.load_error(error);
        let program = self.load_artifact().map_err(load_error)?;
        let gray = vec![128; program.image_bytes()];
        let outputs = program.forward(&[&gray]).map_err(load_error)?;
        let shape = outputs
            .first()
            .map_or(&[][..], |output| output.shape.as_ref());
        (self.check_output)(&self.manifest, &self.labels, shape).map_err(LoadError::Broken)?;
        let best_batch = self
            .measure_best_batch(&program, &gray)
            .map_err(load_error)?;
        give_back_freed_memory(); // that of the load and the measurements
        tracing::info!(
            model = self.manifest.name,
            device = %self.device,
            precision = %self.precision,
            artifact = self.artifact_name,
            batch.images = best_batch,
            "model warmed up"
        );
        Ok(Model {
            version_id: self.version_id,
            reference: self.reference,
            manifest: self.manifest,
            labels: self.labels,
            batch: BestBatch::new(best_batch, program.batch_sizes(), self.infer_threads),
            program,
            precision: self.precision,
            bytes: self.bytes,
        })
    }

    fn load_artifact(&self) -> Result<Program, ForwardError> {
        let (path, manifest) = (&self.artifact, &self.manifest);
        if is_package(&self.artifact_name) {
            let threads = self.infer_threads;
            return load_package(path, manifest, self.device, self.batch_max, threads);
        }
        load_program(path, manifest, self.device, self.precision, self.batch_max)
    }

    /// Measures larger and larger forward batches until one is not faster. Returns the last one that was.
    fn measure_best_batch(&self, program: &Program, gray: &[u8]) -> Result<usize, ForwardError> {
        let (mut best, mut each) = (1, f64::INFINITY);
        for &size in program.batch_sizes() {
            let batch = vec![gray; size];
            let took = match self.measure_pass(program, &batch) {
                Ok(took) => took,
                // At least one image for each thread must fit.
                Err(error) if each.is_infinite() => return Err(error),
                Err(_) => break,
            };
            let took_each = took.as_secs_f64() / size as f64;
            tracing::debug!(
                batch.images = size,
                each_ms = took_each * 1e3,
                "measured a forward batch"
            );
            if took_each * GAIN_LEAST > each {
                break;
            }
            (best, each) = (size, took_each);
        }
        Ok(best)
    }

    /// The time of a pass while all inference threads run one: they share caches and memory, so one thread alone is faster
    /// (docs/adr/0015-the-best-batch-at-work.md).
    fn measure_pass(&self, program: &Program, batch: &[&[u8]]) -> Result<Duration, ForwardError> {
        let passes = (SAMPLE_IMAGES / batch.len()).max(1);
        let sample = || {
            let began = Instant::now();
            (0..passes).try_for_each(|_| program.forward(batch).map(drop))?;
            Ok(began.elapsed() / passes as u32)
        };
        let fastest = |number| -> Result<Duration, ForwardError> {
            prepare_thread(number);
            program.forward(batch)?; // warm-up of the thread's memory
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

    fn load_error(&self, error: ForwardError) -> LoadError {
        match error {
            ForwardError::OutOfMemory(cause) => LoadError::TooLarge(cause),
            // Another worker of this machine may have removed the file.
            ForwardError::Failed(_) if !self.artifact.exists() => {
                LoadError::Unavailable("the file of the model was removed from the cache".into())
            }
            // After some kernel faults a GPU fails for all calls. Then the artifact may be good.
            ForwardError::Failed(cause) if self.device.responds() => LoadError::Broken(cause),
            ForwardError::Failed(cause) | ForwardError::DeviceLost(cause) => {
                LoadError::DeviceLost(cause)
            }
        }
    }
}
