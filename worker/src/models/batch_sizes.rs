//! Which sizes of forward batches a model may run in, and which one is best while the machine is idle.

use std::time::Duration;

use super::{
    fault::{ModelWarning, Unreliable},
    load_error::LoadError,
    loader::Loader,
    probes::Probes,
};
use crate::torch::{ForwardError, Program};

/// A larger forward batch must be faster by this factor for each image. Otherwise it only makes images wait longer.
const GAIN_LEAST: f64 = 1.05;
/// Longest probe of a size that was not faster, in seconds. A size that would take longer is not probed, and never runs.
const PROBE_SECONDS_MAX: f64 = 2.0;

/// The sizes of forward batches that work, and in which an answer does not depend on other images.
#[derive(Debug)]
pub(super) struct BatchSizes {
    /// Ascending; never empty.
    pub usable: Vec<usize>,
    pub best: usize,
    pub warning: Option<ModelWarning>,
}

impl BatchSizes {
    /// What is left for a model that gave other answers in forward batches of `size` images.
    fn without_agreement(program: &Program, size: usize) -> Result<Self, Unreliable> {
        match program.training_operator() {
            Some(operator) => Err(Unreliable::TrainingMode { operator }),
            None if size == 1 => Err(Unreliable::Random),
            None => Ok(Self {
                usable: vec![1],
                best: 1,
                warning: Some(ModelWarning::DependsOnNeighbors),
            }),
        }
    }
}

impl Loader {
    /// Probes each size, and measures larger and larger sizes until one is not faster. The passes of a measurement are probes
    /// too.
    ///
    /// # Errors
    /// A single image fails, or the answers depend on chance.
    pub(super) fn find_batch_sizes(
        &self,
        program: &Program,
        probes: &Probes,
    ) -> Result<BatchSizes, LoadError> {
        let (mut each, mut is_faster) = (f64::INFINITY, true);
        let mut found = BatchSizes {
            usable: Vec::new(),
            best: 1,
            warning: (program.batch_sizes().len() > 1 && !probes.are_different())
                .then_some(ModelWarning::NotProbed),
        };
        for &size in program.batch_sizes() {
            let batch = probes.batch(size);
            let tried = if is_faster {
                self.measure_pass(program, &batch)
            } else if program.is_on_gpu() || each * size as f64 > PROBE_SECONDS_MAX {
                break; // a GPU would make plans for a size that it does not run
            } else {
                program
                    .forward_raw(&batch)
                    .map(|outputs| (Duration::ZERO, outputs))
            };
            let (took, outputs) = match tried {
                Ok(tried) => tried,
                // At least one image for each thread must fit.
                Err(error) if size == 1 || !self.device.responds() => {
                    return Err(self.load_error(error));
                }
                Err(ForwardError::OutOfMemory(_)) => break,
                Err(ForwardError::Failed(cause) | ForwardError::DeviceLost(cause)) => {
                    found.warning = Some(ModelWarning::BatchFails {
                        images: size,
                        cause,
                    });
                    break;
                }
            };
            if !probes.agree(program, &outputs) {
                return Ok(BatchSizes::without_agreement(program, size)?);
            }
            found.usable.push(size);
            if found.warning.is_some() {
                break;
            }
            if is_faster {
                let took_each = took.as_secs_f64() / size as f64;
                tracing::debug!(
                    batch.images = size,
                    each_ms = took_each * 1e3,
                    "measured a forward batch"
                );
                is_faster = took_each * GAIN_LEAST <= each;
                if is_faster {
                    (found.best, each) = (size, took_each);
                }
            }
        }
        if program.batch_sizes().len() == 1 {
            refuse_training_mode(program, probes)?;
        }
        Ok(found)
    }
}

/// Refuses a model of single images that was exported in training mode. Two images show that its answers depend on that.
fn refuse_training_mode(program: &Program, probes: &Probes) -> Result<(), Unreliable> {
    let Some(operator) = program.training_operator() else {
        return Ok(());
    };
    match program.forward_raw(&probes.batch(2)) {
        Ok(outputs) if !probes.agree(program, &outputs) => {
            Err(Unreliable::TrainingMode { operator })
        }
        Ok(_) | Err(_) => Ok(()), // the model may not take two images
    }
}
