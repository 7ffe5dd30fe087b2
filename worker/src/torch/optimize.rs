//! A TorchScript module rewritten for its device: the weights are laid out once, as the convolutions of the device want them.
//!
//! The rewritten module is used only if it computes the same output and is not slower (docs/adr/0013-modules-for-the-cpu.md).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    compare::are_alike,
    forward_error::ForwardError,
    libtorch,
    module::Module,
    probe_image::probe_images,
    program::{Program, load_module},
    script_module::ScriptModule,
};

/// How much slower the first pass of the rewritten module may be. First passes vary, and a job may be waiting for another one.
const SLOWER_MAX: f64 = 2.0;

/// Returns the program with an optimized module, or with its plain module if the optimization does not work.
pub(super) fn optimize(mut program: Program, path: &Path) -> Program {
    let optimized = load_module(path, program.device, program.layers.cast).and_then(|plain| {
        let method = &program.layers.method;
        let optimized = libtorch::optimize(plain, method, program.is_on_gpu())?;
        Ok(ScriptModule::new(optimized, method)?)
    });
    let optimized = match optimized {
        Ok(optimized) => optimized,
        Err(error) => {
            tracing::info!(error.cause = %error, "the module cannot be optimized; using the plain module");
            return program;
        }
    };
    let [probe, _] = probe_images(program.image_bytes());
    let Ok((expected, plain_time)) = time_pass(&program, &probe) else {
        return program; // the model may not accept such an image
    };
    if expected.is_empty() {
        return program; // a detector that finds nothing gives nothing to compare
    }
    let difference_max = program.difference_max();
    let Some(layers) = Arc::get_mut(&mut program.layers) else {
        return program; // a pass is running
    };
    let plain = std::mem::replace(&mut layers.module, Module::TorchScript(optimized));
    let reason = match time_pass(&program, &probe) {
        Ok((values, _)) if !are_alike(&values, &expected, difference_max) => {
            "its output differs from that of the plain module"
        }
        Ok((_, optimized_time)) if optimized_time > plain_time.mul_f64(SLOWER_MAX) => {
            "it is slower than the plain module"
        }
        Ok(_) => {
            tracing::info!("the module is optimized for this device");
            return program;
        }
        Err(_) => "its forward pass fails",
    };
    tracing::info!(
        reason,
        "the optimized module is not used; using the plain module"
    );
    if let Some(layers) = Arc::get_mut(&mut program.layers) {
        layers.module = plain;
    }
    program
}

/// The output of a forward pass over one image, and the time of the pass.
fn time_pass(program: &Program, image: &[u8]) -> Result<(Vec<f32>, Duration), ForwardError> {
    let began = Instant::now();
    let outputs = program.forward(&[image])?;
    let took = began.elapsed();
    let values = outputs.into_iter().flat_map(|output| output.values);
    Ok((values.collect(), took))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jobs::{
        manifest::{Manifest, Precision},
        models::ModelFolder,
    };

    use super::*;
    use crate::torch::{Device, DeviceChoice, load::load_program, program::Cast};

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/efficientnet-lite0");

    fn cpu() -> Device {
        Device::open(DeviceChoice::Cpu).expect("every machine has a CPU")
    }

    fn model() -> (Manifest, PathBuf) {
        let manifest = ModelFolder::read(Path::new(FOLDER))
            .expect("a model")
            .manifest;
        let artifact = Path::new(FOLDER).join(&manifest.artifact);
        (manifest, artifact)
    }

    #[test]
    fn an_optimized_module_gives_the_same_outputs_for_a_whole_forward_batch() {
        let ((manifest, path), cpu) = (model(), cpu());
        let mut program = load_program(&path, &manifest, cpu, Precision::Fp32, 3).expect("loads");
        let images: Vec<Vec<u8>> = (1..=3)
            .map(|step| (0..program.image_bytes()).map(move |at| (at * step / 7 % 256) as u8))
            .map(Iterator::collect)
            .collect();
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        let optimized = program.forward(&images).expect("runs");
        let layers = Arc::get_mut(&mut program.layers).expect("no pass is running");
        let plain = load_module(&path, cpu, Cast::Keep).expect("loads");
        let plain = ScriptModule::new(plain, &manifest.method).expect("has the method");
        layers.module = Module::TorchScript(plain);
        let plain = program.forward(&images).expect("runs");
        for (optimized, plain) in optimized.iter().zip(&plain) {
            let difference_max = program.difference_max();
            assert!(are_alike(&optimized.values, &plain.values, difference_max));
        }
    }

    #[test]
    fn a_module_without_the_method_is_not_rewritten() {
        let ((_, path), cpu) = (model(), cpu());
        let module = load_module(&path, cpu, Cast::Keep).expect("loads");
        let error = libtorch::optimize(module, "no_such_method", false);
        let error = error.expect_err("it has no such method").to_string();
        assert!(error.contains("no_such_method"), "{error}");
    }
}
