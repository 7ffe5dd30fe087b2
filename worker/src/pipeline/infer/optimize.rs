//! A module rewritten for the CPU that it runs on: its weights laid out as the convolutions want them, once and not at each
//! pass. Only if it can be, says the same and is no slower (ADR 13).

use std::{
    ffi::{CStr, CString, c_char, c_void},
    path::Path,
    time::{Duration, Instant},
};

use tch::CModule;

use super::program::{ForwardError, Program, module};

/// How far an output may be from that of the module as it was, in parts of the largest value (measured: 1e-6).
const DIFFERENCE_MAX: f32 = 1e-3;
/// Clearly slower: these are first passes, and a job may be waiting for the second.
const SLOWER_MAX: f64 = 2.0;
/// Of the reason why not; the rest is cut off.
const WHY_BYTES: usize = 400;

impl Program {
    /// The same, faster on this CPU if that can be.
    pub(super) fn optimized(mut self, path: &Path) -> Self {
        let other = module(path, self.device, self.kind)
            .map_err(|error| error.to_string())
            .and_then(|other| rewritten(other, &self.method));
        let other = match other {
            Ok(other) => other,
            Err(why) => {
                tracing::info!(error.cause = why, "not to be optimized: runs as it is");
                return self;
            }
        };
        // Neither black nor gray: each layer has something to say.
        let probe = (0..self.image_bytes()).map(|at| (at * 31 % 251) as u8);
        let probe: Vec<u8> = probe.collect();
        let Ok((expected, before)) = self.timed(&probe) else {
            return self; // it may not be made for such an image
        };
        let plain = std::mem::replace(&mut self.module, other);
        let why = match self.timed(&probe) {
            Ok((values, _)) if !alike(&values, &expected) => "says something else",
            Ok((_, after)) if after > before.mul_f64(SLOWER_MAX) => "is slower",
            Ok(_) => {
                tracing::info!("optimized for this CPU");
                return self;
            }
            Err(_) => "fails",
        };
        tracing::info!("what was optimized {why}: runs as it is");
        self.module = plain;
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
fn alike(values: &[f32], expected: &[f32]) -> bool {
    let largest = expected
        .iter()
        .fold(0.0_f32, |most, one| most.max(one.abs()));
    let mut pairs = values.iter().zip(expected);
    values.len() == expected.len()
        && pairs.all(|(value, expected)| (value - expected).abs() <= DIFFERENCE_MAX * largest)
}

#[allow(unsafe_code)]
unsafe extern "C" {
    /// In `optimize.cc`.
    fn darkroom_optimize(
        module: *mut c_void,
        method: *const c_char,
        why: *mut c_char,
        why_bytes: usize,
    ) -> bool;
}

// In `tch`, pinned exactly, a module is one pointer that it keeps to itself.
const _: () = assert!(size_of::<CModule>() == size_of::<*mut c_void>());

/// What does the same in `method`; other methods may be gone.
#[allow(unsafe_code)]
fn rewritten(mut module: CModule, method: &str) -> Result<CModule, String> {
    let method = CString::new(method).map_err(|error| error.to_string())?;
    let mut why = [0; WHY_BYTES];
    // SAFETY: by the assertion above the module is its pointer, and nobody else has it. The function throws nothing, and
    // ends `why` with a NUL within its bytes.
    let done = unsafe {
        let pointer = std::ptr::from_mut(&mut module).cast::<*mut c_void>().read();
        darkroom_optimize(pointer, method.as_ptr(), why.as_mut_ptr(), WHY_BYTES)
    };
    if done {
        return Ok(module);
    }
    // SAFETY: as above.
    let why = unsafe { CStr::from_ptr(why.as_ptr()) };
    Err(why.to_string_lossy().into_owned())
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
        let mut program = Program::load(&path, &manifest, cpu, Precision::Fp32).expect("loads");
        let images: Vec<Vec<u8>> = (1..=3)
            .map(|step| (0..program.image_bytes()).map(move |at| (at * step / 7 % 256) as u8))
            .map(Iterator::collect)
            .collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let optimized = program.forward(&images).expect("runs");
        program.module = module(&path, cpu, kind(Precision::Fp32)).expect("loads");
        let plain = program.forward(&images).expect("runs");
        for (optimized, plain) in optimized.iter().zip(&plain) {
            assert!(alike(&optimized.values, &plain.values));
        }
    }

    #[test]
    fn a_module_without_the_method_is_not_rewritten() {
        let ((_, path), cpu) = (model(), cpu());
        let module = module(&path, cpu, kind(Precision::Fp32)).expect("loads");
        let why = rewritten(module, "no_such_method").expect_err("it has no such method");
        assert!(why.contains("no_such_method"), "{why}");
    }

    #[test]
    fn another_value_is_not_alike() {
        assert!(alike(&[1.0, 0.1], &[1.0005, 0.1]));
        assert!(!alike(&[1.0, 0.1], &[1.0, 0.102]));
        assert!(!alike(&[1.0], &[1.0, 0.1]));
        assert!(!alike(&[f32::NAN], &[1.0]));
    }
}
