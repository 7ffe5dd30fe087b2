//! A TorchScript module, and the call of its method.

use std::sync::Mutex;

use jobs::manifest::InputForm;
use tch::{CModule, IValue, TchError, Tensor};

use super::torchscript;

/// A TorchScript module that several threads may call at the same time.
#[derive(Debug)]
pub(super) struct ScriptModule {
    module: CModule,
    /// Copies that no pass is running, if the method writes attributes of the module. Two passes must not write at the same
    /// time: libtorch frees the value that the other pass is reading. So each pass runs a copy of its own.
    idle_copies: Option<Mutex<Vec<CModule>>>,
}

impl ScriptModule {
    /// A module whose `method` will be called.
    ///
    /// # Errors
    /// The module has no such method.
    pub(super) fn new(module: CModule, method: &str) -> Result<Self, TchError> {
        let writes = torchscript::writes_attributes(&module, method)?;
        let idle_copies = writes.then(Mutex::default);
        Ok(Self {
            module,
            idle_copies,
        })
    }

    pub(super) fn module(&self) -> &CModule {
        &self.module
    }

    /// Calls a method with the images `[n, 3, height, width]`, in the form that the model takes. Returns the answer.
    ///
    /// # Errors
    /// The method does not exist, does not take this form, or fails.
    pub(super) fn call(
        &self,
        method: &str,
        form: InputForm,
        images: Tensor,
    ) -> Result<IValue, TchError> {
        let Some(idle_copies) = &self.idle_copies else {
            return call(&self.module, method, form, images);
        };
        let idle = || idle_copies.lock().expect("no panic while it is held");
        // A statement of its own: the lock must not be held during the pass.
        let copy = {
            let mut idle = idle();
            let copy = idle.pop();
            copy.map_or_else(|| torchscript::copy(&self.module), Ok)?
        };
        let answer = call(&copy, method, form, images);
        idle().push(copy);
        answer
    }
}

fn call(
    module: &CModule,
    method: &str,
    form: InputForm,
    images: Tensor,
) -> Result<IValue, TchError> {
    let images = match form {
        InputForm::Batch => IValue::Tensor(images),
        InputForm::List => IValue::TensorList(images.f_unbind(0)?),
    };
    let answer = module.method_is(method, &[&images]);
    if answer.is_err() {
        free(images);
    }
    answer
}

/// Frees the memory of the images: `tch` never frees the arguments of a call that failed.
fn free(images: IValue) {
    let images = match images {
        IValue::Tensor(images) => vec![images],
        IValue::TensorList(images) => images,
        _ => Vec::new(),
    };
    for mut image in images {
        // A tensor whose storage cannot be replaced keeps its memory.
        let _ = image.f_set_();
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "corners and full scores: exact")]
mod tests {
    use std::path::{Path, PathBuf};

    use jobs::{
        manifest::{InputForm, Manifest, Precision},
        models::ModelFolder,
    };
    use tch::{CModule, Kind, Tensor};

    use super::{super::torchvision::register_operators, ScriptModule, free};
    use crate::torch::{Device, DeviceChoice, Output, Program, load_program};

    fn folder(name: &str) -> PathBuf {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/operators");
        fixtures.join(name)
    }

    fn program(name: &str) -> Program {
        let manifest = ModelFolder::read(&folder(name)).expect("a model").manifest;
        program_of(name, &manifest)
    }

    fn program_of(name: &str, manifest: &Manifest) -> Program {
        let cpu = Device::open(DeviceChoice::Cpu).expect("every machine has a CPU");
        let artifact = folder(name).join(&manifest.artifact);
        load_program(&artifact, manifest, cpu, Precision::Fp32, 8).expect("loads")
    }

    /// An image of 64 × 64 pixels whose first tiles are as bright as `tiles`; the others are black.
    fn image(tiles: &[u8]) -> Vec<u8> {
        let tile = |at: usize| (at / 32 / 64) * 2 + at % 64 / 32;
        let light = |at| tiles.get(tile(at)).copied().unwrap_or_default();
        (0..64 * 64).flat_map(|at| [light(at); 3]).collect()
    }

    fn forward(program: &Program, images: &[Vec<u8>]) -> Vec<Output> {
        let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        program.forward(&images).expect("runs")
    }

    #[test]
    fn a_model_that_takes_a_list_answers_for_each_image_of_a_forward_batch() {
        let program = program("bright-tiles");
        let images = [
            image(&[255, 0, 153]),
            image(&[0; 4]),
            image(&[0, 0, 0, 255]),
        ];
        let outputs = forward(&program, &images);
        assert_eq!(outputs[0].shape.as_ref(), [2, 6]);
        let white = [0.0, 0.0, 32.0, 32.0, 1.0, 2.0];
        assert_eq!(outputs[0].values[..6], white);
        assert_eq!(outputs[0].values[6..10], [0.0, 32.0, 32.0, 64.0]);
        assert_eq!(outputs[1].shape.as_ref(), [0, 6]);
        assert_eq!(outputs[2].values, [32.0, 32.0, 64.0, 64.0, 1.0, 2.0]);
        for (image, output) in images.iter().zip(&outputs) {
            assert_eq!(&forward(&program, std::slice::from_ref(image))[0], output);
        }
    }

    #[test]
    fn a_model_with_the_other_form_of_input_fails_with_the_form_that_it_takes() {
        for (name, form, advice) in [
            (
                "bright-tiles",
                InputForm::Batch,
                "set `input.form` to `list`",
            ),
            (
                "bright-planes",
                InputForm::List,
                "set `input.form` to `batch`",
            ),
        ] {
            let mut manifest = ModelFolder::read(&folder(name)).expect("a model").manifest;
            manifest.input.form = form;
            let failed = program_of(name, &manifest).forward(&[&image(&[255; 4])]);
            let failed = failed.expect_err("the other form").to_string();
            assert!(failed.ends_with(advice), "{name}: {failed}");
        }
    }

    #[test]
    fn an_output_in_a_dict_is_served() {
        let outputs = forward(&program("bright-planes"), &[image(&[255; 4])]);
        assert_eq!(outputs[0].shape.as_ref(), [3, 32, 32]);
        assert!(
            (outputs[0].values[2 * 32 * 32] - 0.33).abs() < 1e-6,
            "of `out`"
        );
    }

    #[test]
    fn passes_at_the_same_time_run_copies_of_a_module_that_writes_its_attributes() {
        let path = folder("bright-tiles").join("model.pt");
        register_operators().expect("registers");
        let module = CModule::load(&path).expect("loads");
        let module = ScriptModule::new(module, "forward").expect("has the method");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let images = Tensor::ones([2, 3, 8, 8], (Kind::Float, tch::Device::Cpu));
                        let answer = module.call("forward", InputForm::List, images);
                        assert!(answer.is_ok(), "{answer:?}");
                    }
                });
            }
        });
        let copies = module.idle_copies.as_ref().expect("it writes attributes");
        let copies = copies.lock().expect("no panic").len();
        assert!((1..=4).contains(&copies), "{copies}");
    }

    #[test]
    fn a_module_that_only_reads_is_not_copied() {
        let module = CModule::load(folder("bright-planes").join("model.pt")).expect("loads");
        let module = ScriptModule::new(module, "forward").expect("has the method");
        assert!(module.idle_copies.is_none());
        let module = CModule::load(folder("bright-planes").join("model.pt")).expect("loads");
        assert!(ScriptModule::new(module, "no_such_method").is_err());
    }

    #[test]
    fn the_images_of_a_failed_call_are_freed() {
        let images = Tensor::ones([2, 3, 8, 8], (Kind::Float, tch::Device::Cpu));
        let kept_by_tch = images.shallow_clone();
        free(images.into());
        assert_eq!(kept_by_tch.numel(), 0);
        let images = Tensor::ones([2, 3, 8, 8], (Kind::Float, tch::Device::Cpu));
        let list = images.unbind(0);
        let kept_by_tch: Vec<Tensor> = list.iter().map(Tensor::shallow_clone).collect();
        free(list.into());
        assert!(kept_by_tch.iter().all(|image| image.numel() == 0));
    }
}
