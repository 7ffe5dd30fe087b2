//! A model's TorchScript on a device, and the one function that runs it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use jobs::manifest::{Activation, Manifest, Precision};
use tch::{CModule, Kind, TchError, Tensor};

use super::device::{Device, kind};
use crate::pipeline::{develop::message, postprocess::Output};

/// Why a forward pass came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    #[error("{0}")]
    Failed(String),
    /// The device answers nothing any more, whatever the image.
    #[error("device lost: {0}")]
    DeviceLost(String),
}

impl From<TchError> for ForwardError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        // As the allocators of CUDA and of the CPU say it.
        if text.contains("out of memory") || text.contains("can't allocate memory") {
            Self::OutOfMemory(text)
        } else {
            Self::Failed(text)
        }
    }
}

/// A loaded TorchScript module with what happens right before and after it.
#[derive(Debug)]
pub struct Program {
    pub(super) module: CModule,
    pub(super) method: String,
    pub(super) device: Device,
    pub(super) kind: Kind,
    height: i64,
    width: i64,
    mean: Guarded,
    std: Guarded,
    activation: Activation,
}

/// A tensor that nobody writes to after its making.
#[derive(Debug)]
struct Guarded(Tensor);

// Reading a tensor from several threads is what libtorch promises; `tch` cannot tell reading from writing.
#[allow(unsafe_code)]
unsafe impl Sync for Guarded {}

impl Program {
    /// Loads a TorchScript file onto a device.
    ///
    /// # Errors
    /// It is not TorchScript of this libtorch, or does not fit.
    pub fn load(
        path: &Path,
        manifest: &Manifest,
        device: Device,
        precision: Precision,
    ) -> Result<Self, ForwardError> {
        caught(|| {
            // Shapes change with every batch: an executor that compiles anew for each shape never gets done.
            tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
            tch::jit::f_set_profiling_mode(false)?;
            let kind = kind(precision);
            let module = module(path, device, kind)?;
            let channels = |values: &[f32; 3]| -> Result<Guarded, TchError> {
                let tensor = Tensor::f_from_slice(values)?.f_view([1, 3, 1, 1])?;
                Ok(Guarded(tensor.f_to_device(device.raw())?))
            };
            let program = Self {
                module,
                method: manifest.method.clone(),
                device,
                kind,
                height: manifest.input.height.into(),
                width: manifest.input.width.into(),
                mean: channels(&manifest.input.mean)?,
                std: channels(&manifest.input.std)?,
                activation: manifest.output.activation,
            };
            // For others it is not meant.
            if device.is_gpu() || precision != Precision::Fp32 {
                return Ok(program);
            }
            Ok(program.optimized(path))
        })
    }

    pub fn is_on_gpu(&self) -> bool {
        self.device.is_gpu()
    }

    /// Bytes of one image, `u8[height, width, 3]`.
    pub fn image_bytes(&self) -> usize {
        (self.height * self.width * 3) as usize
    }

    /// Whether the device still answers for an image that cannot be to blame.
    pub fn answers(&self) -> bool {
        let gray = vec![128; self.image_bytes()];
        self.forward(&[&gray]).is_ok()
    }

    /// One forward pass over images `u8[height, width, 3]`; one output for each.
    ///
    /// # Errors
    /// See [`ForwardError`]; never [`ForwardError::DeviceLost`], which takes a second look.
    pub fn forward(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        caught(|| tch::no_grad(|| self.rows(images)))
    }

    fn rows(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        let count = i64::try_from(images.len()).unwrap_or(i64::MAX);
        let size = [count, self.height, self.width, 3];
        let pixels = match images {
            [image] => Tensor::f_from_data_size(image, &size, Kind::Uint8)?,
            _ => Tensor::f_from_data_size(&images.concat(), &size, Kind::Uint8)?,
        };
        // A quarter of the bytes crosses the bus; what the model sees is NCHW, in channels-last storage.
        let input = pixels
            .f_to_device(self.device.raw())?
            .f_permute([0, 3, 1, 2])?;
        let input = input
            .f_to_kind(Kind::Float)?
            .f_sub(&self.mean.0)?
            .f_div(&self.std.0)?;
        let input = input.f_to_kind(self.kind)?;
        let output = self
            .module
            .method_ts(&self.method, &[input])?
            .f_to_kind(Kind::Float)?;
        let size = output.size();
        let Some((&rows, shape)) = size.split_first().filter(|(rows, _)| **rows == count) else {
            return Err(ForwardError::Failed(format!(
                "{count} images gave an output of shape {size:?}"
            )));
        };
        let each = shape.iter().product::<i64>();
        let output = output.f_reshape([rows, each])?;
        let output = match self.activation {
            Activation::None => output,
            Activation::Softmax => output.f_softmax(-1, Kind::Float)?,
            Activation::Sigmoid => output.f_sigmoid()?,
        };
        let output = output.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0.0; output.numel()];
        output.f_copy_data(&mut values, output.numel())?;
        let shape: Arc<[usize]> = shape.iter().map(|&side| side as usize).collect();
        let each = each as usize;
        let outputs = (0..images.len()).map(|index| Output {
            shape: shape.clone(),
            values: values[index * each..(index + 1) * each].to_vec(),
        });
        Ok(outputs.collect())
    }
}

/// Loaded, and ready to be run.
pub(super) fn module(path: &Path, device: Device, kind: Kind) -> Result<CModule, ForwardError> {
    let mut module = CModule::load_on_device(path, device.raw())?;
    module.f_set_eval()?;
    module.to(device.raw(), kind, false);
    Ok(module)
}

/// `tch` panics where it has no fallible form; that must not end an inference thread.
fn caught<T>(work: impl FnOnce() -> Result<T, ForwardError>) -> Result<T, ForwardError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(ForwardError::from(TchError::Torch(
            message(&*panic).to_owned(),
        )))
    })
}
