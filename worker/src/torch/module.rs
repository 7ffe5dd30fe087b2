//! The two kinds of modules that a worker runs.

use jobs::manifest::{InputForm, Manifest};
use tch::{CModule, IValue, Tensor};

use super::{
    answer::AnswerSpec, aoti::CompiledModel, forward_error::ForwardError,
    package_folder::PackageFolder, script_module::ScriptModule,
};

/// The module of a model on its device.
#[derive(Debug)]
pub(super) enum Module {
    TorchScript(ScriptModule),
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
            Self::TorchScript(module) => Some(module.module()),
            Self::Compiled { .. } => None,
        }
    }

    /// Where the output is in the answer. A package answers with the output: `darkroom models compile` followed the path.
    pub(super) fn answer(&self, manifest: &Manifest) -> AnswerSpec {
        match self {
            Self::TorchScript(_) => AnswerSpec::of(manifest),
            Self::Compiled { .. } => AnswerSpec::default(),
        }
    }

    /// Calls `method` with `[n, 3, height, width]` in channels-last storage. A package takes its one form.
    ///
    /// # Errors
    /// The module failed.
    pub(super) fn call(
        &self,
        method: &str,
        form: InputForm,
        images: Tensor,
    ) -> Result<IValue, ForwardError> {
        match self {
            Self::TorchScript(module) => {
                let answer = module.call(method, form, images);
                answer.map_err(|error| ForwardError::of_call(error, form))
            }
            Self::Compiled { model, .. } => Ok(IValue::Tensor(model.run(&images)?)),
        }
    }
}
