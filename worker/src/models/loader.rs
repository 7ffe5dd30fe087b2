//! Loads one version and warms it up: the first passes are slow, and a first best batch is measured.

use std::{
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use jobs::manifest::{Manifest, Precision, is_package};

use super::{
    OutputCheck, best_batch::BestBatch, load_error::LoadError, loaded_bytes::loaded_bytes,
    model::Model, probes::Probes,
};
use crate::torch::{
    Device, ForwardError, Output, Program, give_back_freed_memory, load_package, load_program,
    memory_in_use, prepare_thread,
};

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
    /// Size of that file.
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
        give_back_freed_memory();
        let memory_before = memory_in_use(self.device);
        let load_error = |error| self.load_error(error);
        let program = self.load_artifact().map_err(load_error)?;
        let probes = Probes::run(&program).map_err(load_error)?;
        (self.check_output)(&self.manifest, &self.labels, &probes.shape())
            .map_err(LoadError::Broken)?;
        let sizes = self.find_batch_sizes(&program, &probes)?;
        give_back_freed_memory(); // that of the load and the measurements
        let bytes = loaded_bytes(self.bytes, memory_before, memory_in_use(self.device));
        tracing::info!(
            model = self.manifest.name,
            device = %self.device,
            precision = %self.precision,
            artifact = self.artifact_name,
            batch.images = sizes.best,
            model.bytes = bytes,
            "model warmed up"
        );
        if let Some(warning) = &sizes.warning {
            tracing::warn!(model = self.reference, %warning, "the model has limits");
        }
        Ok(Model {
            version_id: self.version_id,
            reference: self.reference,
            manifest: self.manifest,
            labels: self.labels,
            batch: BestBatch::new(sizes.best, &sizes.usable, self.infer_threads),
            warning: sizes.warning.map(OnceLock::from).unwrap_or_default(),
            program,
            precision: self.precision,
            artifact: self.artifact_name,
            refused: Vec::new(),
            bytes,
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

    /// The time of a pass while all inference threads run one: they share caches and memory, so one thread alone is faster
    /// (docs/adr/0015-the-best-batch-at-work.md). Also returns the outputs of the first thread's first pass,
    /// before the activation.
    pub(super) fn measure_pass(
        &self,
        program: &Program,
        batch: &[&[u8]],
    ) -> Result<(Duration, Vec<Output>), ForwardError> {
        let passes = (SAMPLE_IMAGES / batch.len()).max(1);
        let sample = || {
            let began = Instant::now();
            (0..passes).try_for_each(|_| program.forward(batch).map(drop))?;
            Ok(began.elapsed() / passes as u32)
        };
        let fastest = |number| -> Result<(Duration, Vec<Output>), ForwardError> {
            prepare_thread(number);
            let mut outputs = program.forward_raw(batch)?; // warm-up of the thread's memory
            if number > 0 {
                outputs = Vec::new(); // one thread's outputs are enough, and masks are large
            }
            let samples = (0..SAMPLES).map(|_| sample());
            let samples: Vec<_> = samples.collect::<Result<_, ForwardError>>()?;
            Ok((samples.into_iter().min().unwrap_or_default(), outputs))
        };
        std::thread::scope(|scope| {
            let threads =
                (0..self.infer_threads).map(|number| scope.spawn(move || fastest(number)));
            let threads: Vec<_> = threads.collect();
            let took = threads.into_iter().map(|thread| {
                let panicked = |_| Err(ForwardError::Failed("a forward pass panicked".into()));
                thread.join().unwrap_or_else(panicked)
            });
            let slower = |one: (Duration, _), other: (Duration, _)| (one.0.max(other.0), one.1);
            let slowest = took.reduce(|one, other| Ok(slower(one?, other?)));
            slowest.unwrap_or_else(|| Err(ForwardError::Failed("no inference thread".into())))
        })
    }

    pub(super) fn load_error(&self, error: ForwardError) -> LoadError {
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

#[cfg(test)]
mod tests;
