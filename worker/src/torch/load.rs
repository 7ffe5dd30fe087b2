//! Loading a model's TorchScript onto a device.

use std::path::Path;

use jobs::manifest::{Manifest, Precision};

use super::{
    device::{Device, kind},
    forward_error::ForwardError,
    optimize::optimize,
    program::{Cast, Program, caught},
    torchvision,
};

/// Loads a TorchScript file onto a device, for forward batches of up to `batch_max` images, and optimizes it for the device.
///
/// # Errors
/// The file is not TorchScript of this libtorch, or the model does not fit.
pub fn load_program(
    path: &Path,
    manifest: &Manifest,
    device: Device,
    precision: Precision,
    batch_max: usize,
) -> Result<Program, ForwardError> {
    caught(|| {
        torchvision::register_operators()?;
        // Shapes change with every forward batch. An executor that compiles for each shape would never finish.
        tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
        tch::jit::f_set_profiling_mode(false)?;
        let kind = kind(precision);
        let load = |cast| Program::load_plain(path, manifest, device, kind, cast, batch_max);
        let program = match precision {
            Precision::Fp32 => {
                let program = load(Cast::Keep)?;
                // Python runs such a module after `.float()`, unless the module casts its input.
                if program.is_stored_in_another_precision()? && !program.responds() {
                    load(Cast::To(kind))?
                } else {
                    program
                }
            }
            Precision::Bf16 | Precision::Fp16 => load(Cast::To(kind))?,
        };
        // On a CPU the optimization is made for fp32 only.
        if !device.is_gpu() && precision != Precision::Fp32 {
            return Ok(program);
        }
        Ok(optimize(program, path))
    })
}
