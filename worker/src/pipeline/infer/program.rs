//! A model's TorchScript on a device, and the one function that runs it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use jobs::manifest::{Activation, Manifest, Precision};
use tch::{CModule, Kind, TchError, Tensor};

use super::{
    device::{Device, kind},
    launch::launch,
    upload::Gathered,
};
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
        // As the allocators of CUDA and of the CPU say it, cuBLAS and cuDNN, and C++.
        let says_so = [
            "out of memory",
            "can't allocate memory",
            "_ALLOC_FAILED",
            "bad_alloc",
        ];
        if says_so.iter().any(|words| text.contains(words)) {
            Self::OutOfMemory(text)
        } else {
            Self::Failed(text)
        }
    }
}

/// A loaded TorchScript module with what happens right before and after it.
#[derive(Debug)]
pub struct Program {
    pub(super) layers: Arc<Layers>,
    pub(super) device: Device,
    height: usize,
    width: usize,
    batch_sizes: Vec<usize>,
}

/// What runs on the device.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) module: CModule,
    pub(super) method: String,
    pub(super) kind: Kind,
    device: Device,
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
    /// Loads a TorchScript file onto a device, for batches of up to `batch_max` images.
    ///
    /// # Errors
    /// It is not TorchScript of this libtorch, or does not fit.
    pub fn load(
        path: &Path,
        manifest: &Manifest,
        device: Device,
        precision: Precision,
        batch_max: usize,
    ) -> Result<Self, ForwardError> {
        caught(|| {
            // Shapes change with every batch: an executor that compiles anew for each shape never gets done.
            tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
            tch::jit::f_set_profiling_mode(false)?;
            let kind = kind(precision);
            let layers = Layers {
                module: module(path, device, kind)?,
                method: manifest.method.clone(),
                kind,
                device,
                mean: channels(&manifest.input.mean, device)?,
                std: channels(&manifest.input.std, device)?,
                activation: manifest.output.activation,
            };
            let program = Self {
                layers: Arc::new(layers),
                device,
                height: manifest.input.height as usize,
                width: manifest.input.width as usize,
                batch_sizes: batch_sizes(device.is_gpu(), batch_max),
            };
            // On a CPU it is not meant for others.
            if !device.is_gpu() && precision != Precision::Fp32 {
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
        self.height * self.width * 3
    }

    /// The sizes of a batch that are worth a measurement, ascending. A GPU runs no others.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
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
        caught(|| self.rows(images))
    }

    fn rows(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        let rows = self.rows_on_device(images.len());
        let size = [rows, self.height, self.width, 3].map(|side| side as i64);
        let gathered = Gathered::of(images, &size, self.device)?;
        let (layers, pixels) = (self.layers.clone(), gathered.batch.shallow_clone());
        let (output, shape) = launch(self.device, move || tch::no_grad(|| layers.run(&pixels)))?;
        let output = output.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
        let mut values = vec![0.0; output.numel()];
        output.f_copy_data(&mut values, output.numel())?;
        gathered.copied();
        let shape: Arc<[usize]> = shape.iter().map(|&side| side as usize).collect();
        let each = shape.iter().product::<usize>();
        let outputs = (0..images.len()).map(|index| Output {
            shape: shape.clone(),
            values: values[index * each..(index + 1) * each].to_vec(),
        });
        Ok(outputs.collect())
    }

    /// Rows of the batch that carries so many images: the last ones may carry none.
    fn rows_on_device(&self, images: usize) -> usize {
        let mut sizes = self.batch_sizes.iter().copied();
        let fits = sizes.find(|&size| size >= images && self.is_on_gpu());
        fits.unwrap_or(images)
    }
}

impl Layers {
    /// From pixels `u8[n, height, width, 3]` to values `f32[n, …]` on the device, flat, and the shape of one row.
    fn run(&self, pixels: &Tensor) -> Result<(Tensor, Vec<i64>), ForwardError> {
        let rows = pixels.size().first().copied().unwrap_or_default();
        // A quarter of the bytes crosses the bus; what the model sees is NCHW, in channels-last storage.
        let input = pixels.f_to_device_(self.device.raw(), Kind::Uint8, true, false)?;
        let input = input
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)?
            .f_sub(&self.mean.0)?
            .f_div(&self.std.0)?;
        let input = input.f_to_kind(self.kind)?;
        let output = self
            .module
            .method_ts(&self.method, &[input])?
            .f_to_kind(Kind::Float)?;
        let size = output.size();
        let Some((_, shape)) = size.split_first().filter(|(first, _)| **first == rows) else {
            return Err(ForwardError::Failed(format!(
                "{rows} images gave an output of shape {size:?}"
            )));
        };
        let output = output.f_reshape([rows, shape.iter().product::<i64>()])?;
        let output = match self.activation {
            Activation::None => output,
            Activation::Softmax => output.f_softmax(-1, Kind::Float)?,
            Activation::Sigmoid => output.f_sigmoid()?,
        };
        Ok((output, shape.to_vec()))
    }
}

/// On a GPU each size costs plans for its layers (see `launch`), so there are few, and a batch is filled up to the next. On a CPU a
/// batch is as large as it is.
fn batch_sizes(on_gpu: bool, batch_max: usize) -> Vec<usize> {
    let step = if on_gpu { 4 } else { 2 };
    let smaller = std::iter::successors(Some(1), |size| Some(size * step));
    let smaller = smaller.take_while(|&size| size < batch_max);
    smaller.chain([batch_max]).collect()
}

/// `f32[1, 3, 1, 1]`.
fn channels(values: &[f32; 3], device: Device) -> Result<Guarded, TchError> {
    let tensor = Tensor::f_from_slice(values)?.f_view([1, 3, 1, 1])?;
    Ok(Guarded(tensor.f_to_device(device.raw())?))
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

#[cfg(test)]
mod tests {
    use super::batch_sizes;

    #[test]
    fn a_gpu_knows_few_sizes_of_batches_and_the_largest_is_among_them() {
        assert_eq!(batch_sizes(true, 64), [1, 4, 16, 64]);
        assert_eq!(batch_sizes(true, 50), [1, 4, 16, 50]);
        assert_eq!(batch_sizes(false, 8), [1, 2, 4, 8]);
        assert_eq!(batch_sizes(true, 1), [1]);
    }
}
