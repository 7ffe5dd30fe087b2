//! The two kinds of modules that a worker runs.

use tch::{CModule, Tensor};

use super::{aoti::CompiledModel, forward_error::ForwardError, package_folder::PackageFolder};

/// The module of a model on its device.
#[derive(Debug)]
pub(super) enum Module {
    TorchScript(CModule),
    /// Of an AOTInductor package. It has one method, and gives one tensor. A GPU loads kernels from the folder as it meets
    /// them.
    Compiled {
        model: CompiledModel,
        _folder: Option<PackageFolder>,
    },
}

impl Module {
    pub(super) fn torch_script(&self) -> Option<&CModule> {
        match self {
            Self::TorchScript(module) => Some(module),
            Self::Compiled { .. } => None,
        }
    }

    /// Calls `method` with `[n, 3, height, width]` in channels-last storage.
    ///
    /// # Errors
    /// The module failed, or the answer is not one tensor.
    pub(super) fn run(&self, method: &str, input: Tensor) -> Result<Tensor, ForwardError> {
        match self {
            Self::TorchScript(module) => Ok(module.method_ts(method, &[input])?),
            Self::Compiled { model, .. } => Ok(model.run(&input)?),
        }
    }
}
