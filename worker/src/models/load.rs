//! Loading one version and warming it up: the first passes are slow, and the best batch is measured, not guessed.

use std::{
    path::PathBuf,
    sync::atomic::AtomicUsize,
    time::{Duration, Instant},
};

use jobs::manifest::{Manifest, Precision};

use super::{LoadFault, Model};
use crate::pipeline::{Device, ForwardError, Program, postprocess::check};

/// A batch twice as large must gain at least so much an image; all else is longer waiting for nothing.
const GAIN_LEAST: f64 = 1.05;

/// All that loading needs; blocking.
#[derive(Debug)]
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
}

impl Load {
    pub(super) fn load(self) -> Result<Model, LoadFault> {
        if !self.device.is_gpu() {
            crate::pipeline::one_libtorch_thread();
        }
        let program = Program::load(&self.artifact, &self.manifest, self.device, self.precision);
        let program = program.map_err(broken)?;
        let gray = vec![128; program.image_bytes()];
        let outputs = program.forward(&[&gray]).map_err(broken)?;
        let shape = outputs
            .first()
            .map_or(&[][..], |output| output.shape.as_ref());
        check(&self.manifest, &self.labels, shape).map_err(LoadFault::Broken)?;
        let batch_best = best_batch(&program, &gray, self.batch_max);
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
            program,
            precision: self.precision,
            bytes: self.bytes,
            batch_best: AtomicUsize::new(batch_best),
        })
    }
}

/// Doubles the batch for as long as that pays, by the best of some passes each.
fn best_batch(program: &Program, gray: &[u8], batch_max: usize) -> usize {
    let (mut best, mut each) = (1, f64::INFINITY);
    let mut size = 1;
    loop {
        let batch = vec![gray; size];
        let Some(took) = fastest(program, &batch) else {
            return best; // it does not fit
        };
        let took_each = took.as_secs_f64() / size as f64;
        if took_each * GAIN_LEAST > each {
            return best;
        }
        (best, each) = (size, took_each);
        if size == batch_max {
            return best;
        }
        size = (size * 2).min(batch_max);
    }
}

fn fastest(program: &Program, batch: &[&[u8]]) -> Option<Duration> {
    const PASSES: usize = 3;
    let passes = (0..PASSES).map(|_| {
        let began = Instant::now();
        program.forward(batch).ok().map(|_| began.elapsed())
    });
    passes.collect::<Option<Vec<_>>>()?.into_iter().min()
}

fn broken(error: ForwardError) -> LoadFault {
    match error {
        ForwardError::OutOfMemory(cause) => LoadFault::TooLarge(cause),
        ForwardError::Failed(cause) | ForwardError::DeviceLost(cause) => LoadFault::Broken(cause),
    }
}
