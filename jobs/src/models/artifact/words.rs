//! What a file is, and what to do about it, in words for the person who pushes it.

use super::ArtifactKind;

/// Longest name of a file or class in a message.
const NAME_CHARS_MAX: usize = 200;
/// Stands in recipes for height and width of the input, which a manifest has.
pub const SIDES: &str = "HEIGHT, WIDTH";

/// The name, without characters that a terminal would obey.
pub(super) fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(NAME_CHARS_MAX)
        .collect()
}

impl ArtifactKind {
    /// A short name for programs, like `state_dict`. It never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TorchScript(_) => "torchscript",
            Self::AotInductor => "aot_inductor",
            Self::AotInductorSource => "aot_inductor_source",
            Self::ExportedProgram => "exported_program",
            Self::StateDict { .. } => "state_dict",
            Self::PickledModule { .. } => "pickled_module",
            Self::PickledObject { .. } => "pickled_object",
            Self::TorchPackage => "torch_package",
            Self::TorchServe => "torchserve",
            Self::Safetensors => "safetensors",
            Self::Onnx => "onnx",
            Self::SavedModel => "saved_model",
            Self::Keras => "keras",
            Self::TfLite => "tflite",
            Self::TensorRt => "tensorrt",
            Self::Gguf => "gguf",
            Self::Numpy => "numpy",
            Self::SharedLibrary => "shared_library",
            Self::LfsPointer { .. } => "lfs_pointer",
            Self::CutOff { .. } => "cut_off",
            Self::DamagedArchive { .. } => "damaged_archive",
            Self::Archive { .. } => "archive",
            Self::Folder { .. } => "folder",
            Self::Empty => "empty",
            Self::WebPage => "web_page",
            Self::Xml => "xml",
            Self::Text => "text",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The kind in a few words, to stand behind "is": `a state_dict: weights without the code of the model`.
    pub fn what_it_is(&self) -> String {
        match self {
            Self::TorchScript(code) if code.missing_operators.is_empty() => "TorchScript".into(),
            Self::TorchScript(code) => {
                let operators: Vec<_> = code.missing_operators.iter().cloned().collect();
                let operators = operators.join(", ");
                format!("TorchScript that calls operators which workers do not have: {operators}")
            }
            Self::AotInductor => "an AOTInductor package".into(),
            Self::AotInductorSource => {
                "an AOTInductor package with source code, but without its compiled library".into()
            }
            Self::ExportedProgram => {
                "an exported program of `torch.export.save`, which is not compiled".into()
            }
            Self::StateDict { key: None } => {
                "a state_dict: weights without the code of the model".into()
            }
            Self::StateDict { key: Some(key) } => {
                format!("a checkpoint: weights (in `{key}`) without the code of the model")
            }
            Self::PickledModule { class, key: None } => {
                format!("a pickled module of the class `{class}`, whose code is not in the file")
            }
            Self::PickledModule {
                class,
                key: Some(key),
            } => format!(
                "a checkpoint with a pickled module of the class `{class}` (in `{key}`), whose code is not in the file"
            ),
            Self::PickledObject { class: Some(class) } => {
                format!("a pickle with an object of the class `{class}`")
            }
            Self::PickledObject { class: None } => "a pickle without a model".into(),
            Self::TorchPackage => "an archive of `torch.package`".into(),
            Self::TorchServe => "a model archive of TorchServe".into(),
            Self::Safetensors => "safetensors: weights without the code of the model".into(),
            Self::Onnx => "an ONNX model".into(),
            Self::SavedModel => "a SavedModel of TensorFlow".into(),
            Self::Keras => "a Keras or HDF5 file".into(),
            Self::TfLite => "a TensorFlow Lite model".into(),
            Self::TensorRt => "a TensorRT engine".into(),
            Self::Gguf => "a GGUF file".into(),
            Self::Numpy => "arrays of NumPy".into(),
            Self::SharedLibrary => "a shared library or program".into(),
            Self::LfsPointer { bytes: Some(bytes) } => {
                format!("a Git LFS pointer to a file of {bytes} bytes, not the file")
            }
            Self::LfsPointer { bytes: None } => "a Git LFS pointer, not the file".into(),
            Self::CutOff { why } => format!("an archive that was cut off: {why}"),
            Self::DamagedArchive { why } if why.is_empty() => "a damaged archive".into(),
            Self::DamagedArchive { why } => format!("a damaged archive: {why}"),
            Self::Archive {
                format,
                inside: None,
            } => format!("a {format} archive"),
            Self::Archive {
                format,
                inside: Some(inside),
            } => {
                format!("a {format} archive with `{inside}` in it")
            }
            Self::Folder {
                inside: Some(inside),
            } if inside == "saved_model.pb" => "a folder with a SavedModel of TensorFlow".into(),
            Self::Folder { .. } => "a folder".into(),
            Self::Empty => "an empty file".into(),
            Self::WebPage => "a web page (HTML)".into(),
            Self::Xml => "XML, such as an error message of an object store".into(),
            Self::Text => "a text file".into(),
            Self::Unknown { head } => {
                format!(
                    "no kind of file that is known here; its first bytes are {}",
                    hex::encode(head)
                )
            }
        }
    }

    /// How to get a model that workers run from this file: a sentence, then lines of shell or Python. Empty if the kind can
    /// run. `file` is the name of the file.
    #[allow(clippy::too_many_lines, reason = "one arm for each kind")]
    pub fn what_to_do(&self, file: &str) -> String {
        let (path, save) = (quoted(file), trace());
        match self {
            Self::AotInductor => String::new(),
            Self::TorchScript(code) if code.missing_operators.is_empty() => String::new(),
            Self::TorchScript(_) => "Workers have the operators of torch 2.11, and `nms`, `roi_align` and `deform_conv2d` of \
                 torchvision. Replace the other operators in the model, then export the model again."
                .into(),
            Self::AotInductorSource => format!(
                "Package the model without `package_cpp_only`:\n  \
                 torch._inductor.aoti_compile_and_package(exported_program, package_path={path})"
            ),
            Self::ExportedProgram => format!(
                "Compile it with `darkroom models compile DIR`, or make TorchScript of it:\n  \
                 import torch\n  model = torch.export.load({path}).module()\n  {save}"
            ),
            Self::StateDict { key } => {
                let item = key.as_ref().map(|key| format!("[{key:?}]")).unwrap_or_default();
                format!(
                    "Put the weights into the model that they belong to, and save TorchScript:\n  \
                     import torch\n  model = MyModel()  # the class that was trained\n  \
                     model.load_state_dict(torch.load({path}, map_location=\"cpu\"){item})\n  {save}"
                )
            }
            Self::PickledModule { class, .. } if class.starts_with("ultralytics.") => format!(
                "Export TorchScript with the package `ultralytics`:\n  \
                 from ultralytics import YOLO\n  YOLO({path}).export(format=\"torchscript\")"
            ),
            Self::PickledModule { class, key } => {
                let item = key.as_ref().map(|key| format!("[{key:?}]")).unwrap_or_default();
                let package = class.split('.').next().unwrap_or_default();
                format!(
                    "Save TorchScript where the code of `{package}` can be imported:\n  \
                     import torch\n  \
                     model = torch.load({path}, map_location=\"cpu\", weights_only=False){item}\n  {save}\n\
                     `weights_only=False` runs code of the file: load only a file that you trust."
                )
            }
            Self::PickledObject { .. } => no_conversion("Workers run models of PyTorch only."),
            Self::TorchPackage => format!(
                "Load the model with its package, and save TorchScript:\n  \
                 import torch\n  \
                 model = torch.package.PackageImporter({path}).load_pickle(PACKAGE, RESOURCE)\n  {save}"
            ),
            Self::TorchServe => format!(
                "Unpack the archive, and name the TorchScript file in it as `artifact`:\n  unzip -l {path}"
            ),
            Self::Safetensors => format!(
                "Put the weights into the model that they belong to, and save TorchScript:\n  \
                 import torch; from safetensors.torch import load_file\n  \
                 model = MyModel(); model.load_state_dict(load_file({path}))\n  {save}"
            ),
            Self::Onnx => format!(
                "Export TorchScript from the PyTorch model that the ONNX model was made of. Without that model, convert it \
                 (`pip install onnx2torch`) and compare its answers:\n  \
                 import torch, onnx2torch\n  model = onnx2torch.convert({path})\n  {save}"
            ),
            Self::SavedModel => tensorflow("--saved-model .", ""),
            Self::Keras => tensorflow(&format!("--keras {path}"), "If the file has weights only, build and save the model first. "),
            Self::TfLite => tensorflow(&format!("--tflite {path}"), ""),
            Self::Folder { inside: Some(inside) } if inside == "saved_model.pb" => {
                tensorflow(&format!("--saved-model {path}"), "")
            }
            Self::TensorRt => no_conversion("An engine runs with TensorRT only, on one kind of GPU."),
            Self::Gguf => no_conversion("Workers do not run GGUF files, which are mostly language models."),
            Self::Numpy => no_conversion("Arrays have no code of a model."),
            Self::SharedLibrary => format!(
                "If it was made by `torch._export.aot_compile`, make a package of it instead:\n  \
                 torch._inductor.aoti_compile_and_package(exported_program, package_path=\"{}.pt2\")",
                file.split('.').next().unwrap_or("model")
            ),
            Self::LfsPointer { .. } => {
                format!("Get the file from Git LFS:\n  git lfs install && git lfs pull --include {path}")
            }
            Self::CutOff { .. } => {
                "Copy or download the file again, and compare its length with the original.".into()
            }
            Self::DamagedArchive { .. } => {
                "Copy or download the file again, or save the model again.".into()
            }
            Self::Archive { inside: Some(inside), .. } => {
                format!("Unpack the archive, and name the file in it as `artifact`: `{inside}`")
            }
            Self::Archive { .. } => {
                "Unpack the archive, and name the model in it as `artifact`.".into()
            }
            Self::Folder { .. } => "Name a file in the folder.".into(),
            Self::Empty => "Save or download the model again. Is the disk full?".into(),
            Self::WebPage => "The download got a page, perhaps of a login, instead of the file. Open the address in a browser, \
                 and download the file itself."
                .into(),
            Self::Xml => "Read the file: it may say why the download failed. Then download the model again.".into(),
            Self::Text => no_conversion("An artifact is a binary file."),
            Self::Unknown { .. } => no_conversion("Workers run TorchScript and AOTInductor packages."),
        }
    }
}

/// The name as a text of Python.
fn quoted(file: &str) -> String {
    format!("{file:?}")
}

/// The last line of most recipes: TorchScript of `model`.
fn trace() -> String {
    format!("torch.jit.trace(model.eval(), torch.zeros(1, 3, {SIDES})).save(\"model.pt\")")
}

fn no_conversion(reason: &str) -> String {
    format!(
        "{reason} Save TorchScript from the PyTorch model:\n  {}",
        trace()
    )
}

fn tensorflow(option: &str, first: &str) -> String {
    format!(
        "{first}Convert it to ONNX and then to TorchScript (`pip install tf2onnx onnx2torch`), and compare its answers:\n  \
         python -m tf2onnx.convert {option} --output model.onnx\n  \
         python -c 'import torch, onnx2torch; model = onnx2torch.convert(\"model.onnx\"); {}'",
        trace()
    )
}
