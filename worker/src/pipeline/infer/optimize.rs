//! A module rewritten for the device that it runs on: its weights laid out as the convolutions want them, once and not at each
//! pass. Only if it can be, says the same and is no slower (ADR 13).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    libtorch,
    program::{ForwardError, Program, module},
};

/// How far an output may be from that of the module as it was, in parts of the largest value (measured: 1e-6).
const DIFFERENCE_MAX: f32 = 1e-3;
/// On a GPU: in fp16, bf16 and TF32 another order of the sums shows.
const GPU_DIFFERENCE_MAX: f32 = 0.05;
/// Clearly slower: these are first passes, and a job may be waiting for the second.
const SLOWER_MAX: f64 = 2.0;
impl Program {
    /// The same, faster on this device if that can be.
    pub(super) fn optimized(mut self, path: &Path) -> Self {
        let other = module(path, self.device, self.layers.kind).and_then(|other| {
            Ok(libtorch::optimize(
                other,
                &self.layers.method,
                self.is_on_gpu(),
            )?)
        });
        let other = match other {
            Ok(other) => other,
            Err(why) => {
                tracing::info!(error.cause = %why, "not to be optimized: runs as it is");
                return self;
            }
        };
        // Neither black nor gray: each layer has something to say.
        let probe = (0..self.image_bytes()).map(|at| (at * 31 % 251) as u8);
        let probe: Vec<u8> = probe.collect();
        let Ok((expected, before)) = self.timed(&probe) else {
            return self; // it may not be made for such an image
        };
        let difference_max = if self.is_on_gpu() {
            GPU_DIFFERENCE_MAX
        } else {
            DIFFERENCE_MAX
        };
        let Some(layers) = Arc::get_mut(&mut self.layers) else {
            return self; // a pass is under way
        };
        let plain = std::mem::replace(&mut layers.module, other);
        let why = match self.timed(&probe) {
            Ok((values, _)) if !alike(&values, &expected, difference_max) => "says something else",
            Ok((_, after)) if after > before.mul_f64(SLOWER_MAX) => "is slower",
            Ok(_) => {
                tracing::info!("optimized for this device");
                return self;
            }
            Err(_) => "fails",
        };
        tracing::info!("what was optimized {why}: runs as it is");
        if let Some(layers) = Arc::get_mut(&mut self.layers) {
            layers.module = plain;
        }
        self
    }

    /// What it makes of an image, and how fast.
    fn timed(&self, image: &[u8]) -> Result<(Vec<f32>, Duration), ForwardError> {
        let began = Instant::now();
        let outputs = self.forward(&[image])?;
        let took = began.elapsed();
        let values = outputs.into_iter().flat_map(|output| output.values);
        Ok((values.collect(), took))
    }
}

/// As near as two orders of the same sums may be.
fn alike(values: &[f32], expected: &[f32], difference_max: f32) -> bool {
    let largest = expected
        .iter()
        .fold(0.0_f32, |most, one| most.max(one.abs()));
    let mut pairs = values.iter().zip(expected);
    values.len() == expected.len()
        && pairs.all(|(value, expected)| (value - expected).abs() <= difference_max * largest)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jobs::{
        manifest::{Manifest, Precision},
        models::ModelFolder,
    };

    use super::*;
    use crate::{
        config::DeviceChoice,
        pipeline::{Device, infer::device::kind},
    };

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/efficientnet-lite0");

    fn cpu() -> Device {
        Device::open(DeviceChoice::Cpu).expect("there is one")
    }

    fn model() -> (Manifest, PathBuf) {
        let manifest = ModelFolder::read(Path::new(FOLDER))
            .expect("a model")
            .manifest;
        let artifact = Path::new(FOLDER).join(&manifest.artifact);
        (manifest, artifact)
    }

    #[test]
    fn an_optimized_module_says_the_same_of_a_whole_batch() {
        let ((manifest, path), cpu) = (model(), cpu());
        let mut program = Program::load(&path, &manifest, cpu, Precision::Fp32, 3).expect("loads");
        let images: Vec<Vec<u8>> = (1..=3)
            .map(|step| (0..program.image_bytes()).map(move |at| (at * step / 7 % 256) as u8))
            .map(Iterator::collect)
            .collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let optimized = program.forward(&images).expect("runs");
        let layers = Arc::get_mut(&mut program.layers).expect("no pass is under way");
        layers.module = module(&path, cpu, kind(Precision::Fp32)).expect("loads");
        let plain = program.forward(&images).expect("runs");
        for (optimized, plain) in optimized.iter().zip(&plain) {
            assert!(alike(&optimized.values, &plain.values, DIFFERENCE_MAX));
        }
    }

    #[test]
    fn a_module_without_the_method_is_not_rewritten() {
        let ((_, path), cpu) = (model(), cpu());
        let module = module(&path, cpu, kind(Precision::Fp32)).expect("loads");
        let why = libtorch::optimize(module, "no_such_method", false);
        let why = why.expect_err("it has no such method").to_string();
        assert!(why.contains("no_such_method"), "{why}");
    }

    #[test]
    fn another_value_is_not_alike() {
        assert!(alike(&[1.0, 0.1], &[1.0005, 0.1], DIFFERENCE_MAX));
        assert!(!alike(&[1.0, 0.1], &[1.0, 0.102], DIFFERENCE_MAX));
        assert!(!alike(&[1.0], &[1.0, 0.1], DIFFERENCE_MAX));
        assert!(!alike(&[f32::NAN], &[1.0], DIFFERENCE_MAX));
    }
}
