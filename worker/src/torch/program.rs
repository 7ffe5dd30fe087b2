//! A module on a device, and the forward pass.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use jobs::manifest::{Activation, InputForm, Manifest};
use tch::{CModule, Kind, TchError, Tensor};

use super::{
    answer::{AnswerSpec, DeviceOutputs},
    device::Device,
    forward_error::ForwardError,
    launch::launch,
    libtorch,
    module::Module,
    output::Output,
    script_module::ScriptModule,
    upload::Upload,
};
use crate::panic_message::panic_message;

/// Largest difference between two answers for one image in fp32 on a CPU, as a part of the largest value. Measured: 1e-6.
const DIFFERENCE_MAX: f32 = 1e-3;
/// [`DIFFERENCE_MAX`] in other precisions and on a GPU: in fp16, bf16 and TF32 the order of a sum changes more digits.
const LOW_DIFFERENCE_MAX: f32 = 0.05;

/// A loaded module, with the steps right before and after it.
#[derive(Debug)]
pub struct Program {
    pub(super) layers: Arc<Layers>,
    pub(super) device: Device,
    height: usize,
    width: usize,
    batch_sizes: Vec<usize>,
}

/// The part of a program that runs on the device.
#[derive(Debug)]
pub(super) struct Layers {
    pub(super) module: Module,
    pub(super) method: String,
    /// The type of the input.
    pub(super) kind: Kind,
    pub(super) cast: Cast,
    device: Device,
    mean: ConstantTensor,
    std: ConstantTensor,
    form: InputForm,
    answer: AnswerSpec,
    activation: Activation,
}

/// What becomes of the floating-point tensors of a module when it is loaded. Other tensors always keep their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cast {
    /// They keep their type too, as in Python.
    Keep,
    /// As `module.to(dtype)` in Python.
    To(Kind),
}

/// A tensor that never changes.
#[derive(Debug)]
struct ConstantTensor(Tensor);

#[allow(unsafe_code)]
// SAFETY: libtorch allows several threads to read one tensor. `tch` does not distinguish reading from writing.
unsafe impl Sync for ConstantTensor {}

impl Program {
    /// Loads the module of `path` without any optimization.
    ///
    /// # Errors
    /// The file is not TorchScript of this libtorch, or the model does not fit.
    pub(super) fn load_plain(
        path: &Path,
        manifest: &Manifest,
        device: Device,
        kind: Kind,
        cast: Cast,
        batch_max: usize,
    ) -> Result<Self, ForwardError> {
        let module = ScriptModule::new(load_module(path, device, cast)?, &manifest.method)?;
        let module = Module::TorchScript(module);
        Self::of(module, manifest, device, kind, cast, batch_max)
    }

    /// The program of a loaded module.
    ///
    /// # Errors
    /// The device has no memory left.
    pub(super) fn of(
        module: Module,
        manifest: &Manifest,
        device: Device,
        kind: Kind,
        cast: Cast,
        batch_max: usize,
    ) -> Result<Self, ForwardError> {
        let answer = module.answer(manifest);
        let layers = Layers {
            module,
            method: manifest.method.clone(),
            kind,
            cast,
            device,
            mean: channels(&manifest.input.mean, device)?,
            std: channels(&manifest.input.std, device)?,
            form: manifest.input.form,
            answer,
            activation: manifest.output.activation,
        };
        Ok(Self {
            layers: Arc::new(layers),
            device,
            height: manifest.input.height as usize,
            width: manifest.input.width as usize,
            batch_sizes: batch_sizes(device.is_gpu(), batch_max),
        })
    }

    pub fn is_on_gpu(&self) -> bool {
        self.device.is_gpu()
    }

    /// Bytes of one image, `u8[height, width, 3]`.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * 3
    }

    /// The sizes of a forward batch that are worth a measurement, ascending. A GPU runs no other sizes.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
    }

    /// The most images of a forward batch.
    pub(super) fn largest_batch(&self) -> usize {
        self.batch_sizes.last().copied().unwrap_or(1)
    }

    /// Whether a forward pass over a gray image works. If it fails, the device is the cause and not an image.
    pub fn responds(&self) -> bool {
        let gray = vec![128; self.image_bytes()];
        self.forward(&[&gray]).is_ok()
    }

    /// The largest difference between two answers for one image that rounding explains, as a part of the largest value.
    pub fn difference_max(&self) -> f32 {
        if !self.is_on_gpu() && self.layers.kind == Kind::Float {
            DIFFERENCE_MAX
        } else {
            LOW_DIFFERENCE_MAX
        }
    }

    /// The name of an operator that works as in training: the module was traced in training mode. `None` if there is none.
    pub fn training_operator(&self) -> Option<String> {
        let module = self.layers.module.torch_script()?; // `torch.export` takes modules in evaluation mode only
        let found = libtorch::training_operator(module, &self.layers.method);
        found.unwrap_or_else(|error| {
            tracing::debug!(error.cause = %error, "cannot look for operators in training mode");
            None
        })
    }

    /// Whether the module has parameters, and none of them is fp32.
    pub(super) fn is_stored_in_another_precision(&self) -> Result<bool, ForwardError> {
        let Some(module) = self.layers.module.torch_script() else {
            return Ok(false);
        };
        let parameters = module.named_parameters()?;
        let mut kinds = parameters.iter().map(|(_, tensor)| tensor.kind());
        Ok(!parameters.is_empty() && kinds.all(|kind| kind != Kind::Float))
    }

    /// Runs one forward pass over images `u8[height, width, 3]`. Returns one output for each image, in order.
    ///
    /// # Errors
    /// See [`ForwardError`]. Never [`ForwardError::DeviceLost`]: only the caller can ask whether the device still
    /// [responds](Self::responds).
    pub fn forward(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        caught(|| self.outputs(images))
    }

    fn outputs(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        self.pass(images, Layers::run)
    }

    /// As [`forward`](Self::forward), before the activation. A softmax can make different answers equal: all of it on one class.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_raw(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        caught(|| self.raw_outputs(images))
    }

    pub(super) fn raw_outputs(&self, images: &[&[u8]]) -> Result<Vec<Output>, ForwardError> {
        self.pass(images, Layers::raw_outputs)
    }

    /// Runs `pass` on the device over the pixels of `images`, and fetches its outputs.
    fn pass(
        &self,
        images: &[&[u8]],
        pass: fn(&Layers, &Tensor) -> Result<DeviceOutputs, ForwardError>,
    ) -> Result<Vec<Output>, ForwardError> {
        let rows = self.rows_on_device(images.len());
        let size = [rows, self.height, self.width, 3].map(|side| side as i64);
        let upload = Upload::of(images, &size, self.device)?;
        let (layers, pixels) = (self.layers.clone(), upload.pixels.shallow_clone());
        let outputs = launch(self.device, move || tch::no_grad(|| pass(&layers, &pixels)))?;
        let outputs = outputs.to_host(images.len())?;
        upload.release();
        Ok(outputs)
    }

    /// Rows of the tensor that carries `images` images. The last rows may be without an image.
    fn rows_on_device(&self, images: usize) -> usize {
        let mut sizes = self.batch_sizes.iter().copied();
        let fits = sizes.find(|&size| size >= images && self.is_on_gpu());
        fits.unwrap_or(images)
    }
}

impl Layers {
    /// From pixels `u8[n, height, width, 3]` to the output of each row.
    fn run(&self, pixels: &Tensor) -> Result<DeviceOutputs, ForwardError> {
        Ok(self.raw_outputs(pixels)?.activated(self.activation)?)
    }

    /// As [`run`](Self::run), before the activation.
    fn raw_outputs(&self, pixels: &Tensor) -> Result<DeviceOutputs, ForwardError> {
        let rows = pixels.size().first().copied().unwrap_or_default();
        // `u8` is a quarter of the bytes of `f32` on the bus. The model gets NCHW in channels-last storage.
        let input = pixels.f_to_device_(self.device.raw(), Kind::Uint8, true, false)?;
        let input = input
            .f_permute([0, 3, 1, 2])?
            .f_to_kind(Kind::Float)?
            .f_sub(&self.mean.0)?
            .f_div(&self.std.0)?;
        let input = input.f_to_kind(self.kind)?;
        let answer = self.module.call(&self.method, self.form, input)?;
        self.answer.take(&answer, rows as usize)
    }
}

/// On a GPU each size needs plans for its layers (see `launch`). So there are few sizes, and a forward batch is padded to the
/// next one. On a CPU there is no padding.
fn batch_sizes(on_gpu: bool, batch_max: usize) -> Vec<usize> {
    let step = if on_gpu { 4 } else { 2 };
    let smaller = std::iter::successors(Some(1), |size| Some(size * step));
    let smaller = smaller.take_while(|&size| size < batch_max);
    smaller.chain([batch_max]).collect()
}

/// `f32[1, 3, 1, 1]`.
fn channels(values: &[f32; 3], device: Device) -> Result<ConstantTensor, TchError> {
    let tensor = Tensor::f_from_slice(values)?.f_view([1, 3, 1, 1])?;
    Ok(ConstantTensor(tensor.f_to_device(device.raw())?))
}

/// Loads a module in evaluation mode. All its tensors are on the device, those in lists and constants too.
pub(super) fn load_module(
    path: &Path,
    device: Device,
    cast: Cast,
) -> Result<CModule, ForwardError> {
    let mut module = CModule::load_on_device(path, device.raw())?;
    module.f_set_eval()?;
    if let Cast::To(kind) = cast {
        libtorch::cast_floats(&mut module, kind)?;
    }
    Ok(module)
}

/// Turns a panic into an error. `tch` panics where it has no fallible form, and a panic must not end an inference thread.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, ForwardError>) -> Result<T, ForwardError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(ForwardError::from(TchError::Torch(
            panic_message(&*panic).to_owned(),
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::batch_sizes;

    #[test]
    fn a_gpu_has_few_sizes_of_forward_batches_and_the_largest_is_among_them() {
        assert_eq!(batch_sizes(true, 64), [1, 4, 16, 64]);
        assert_eq!(batch_sizes(true, 50), [1, 4, 16, 50]);
        assert_eq!(batch_sizes(false, 8), [1, 2, 4, 8]);
        assert_eq!(batch_sizes(true, 1), [1]);
    }
}
