//! What an artifact is, by its bytes: a model that workers run, or one of the files that people push instead.
//!
//! Recognition reads little: the head of the file, the table of contents of an archive, and the code in it. No pickle is
//! executed, and no length in a file is trusted.

mod archive;
mod code;
mod damage;
mod magic;
mod pickle;
mod protobuf;
mod torch_archive;
mod words;

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

pub use self::{code::TorchScriptCode, damage::find_damage, words::SIDES};

/// Bytes at the start of a file that may tell what the file is.
const HEAD_BYTES: u64 = 64 << 10;

/// What a file is. [`ArtifactKind::what_it_is`] and [`ArtifactKind::what_to_do`] say it to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactKind {
    TorchScript(TorchScriptCode),
    /// A package that `torch._inductor.aoti_compile_and_package` wrote, with its compiled library.
    AotInductor,
    /// Such a package with source code only.
    AotInductorSource,
    /// What `torch.export.save` wrote.
    ExportedProgram,
    /// Tensors without the code of a model; `key`: where in a checkpoint they are.
    StateDict {
        key: Option<String>,
    },
    /// What `torch.save(model)` wrote: the name of a class of Python, whose code is not in the file.
    PickledModule {
        class: String,
        key: Option<String>,
    },
    /// A pickle of something else, with its first class.
    PickledObject {
        class: Option<String>,
    },
    TorchPackage,
    TorchServe,
    Safetensors,
    Onnx,
    SavedModel,
    Keras,
    TfLite,
    TensorRt,
    Gguf,
    Numpy,
    SharedLibrary,
    /// `bytes`: the length of the file that the pointer stands for.
    LfsPointer {
        bytes: Option<u64>,
    },
    /// An archive without its last bytes.
    CutOff {
        why: String,
    },
    DamagedArchive {
        why: String,
    },
    /// An archive of another program; `inside`: a file in it that looks like a model.
    Archive {
        format: &'static str,
        inside: Option<String>,
    },
    /// A folder; `inside`: a file in it that tells its kind.
    Folder {
        inside: Option<String>,
    },
    Empty,
    WebPage,
    /// XML, for example the error of an object store.
    Xml,
    Text,
    /// None of these; the first bytes.
    Unknown {
        head: Vec<u8>,
    },
}

impl ArtifactKind {
    /// Whether workers load files of this kind.
    pub fn can_run(&self) -> bool {
        match self {
            Self::TorchScript(code) => code.missing_operators.is_empty(),
            Self::AotInductor => true,
            _ => false,
        }
    }
}

/// Tells what the file or folder is.
///
/// # Errors
/// The file does not exist or cannot be read.
pub fn recognize_path(path: &Path) -> io::Result<ArtifactKind> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        let inside = magic::telling_file(path)?;
        return Ok(ArtifactKind::Folder { inside });
    }
    recognize(std::fs::File::open(path)?, metadata.len())
}

/// Tells what a file of `bytes` bytes is.
///
/// # Errors
/// The file cannot be read. That its content is wrong is no error.
pub fn recognize(mut reader: impl Read + Seek, bytes: u64) -> io::Result<ArtifactKind> {
    let mut head = Vec::new();
    reader.seek(SeekFrom::Start(0))?;
    reader
        .by_ref()
        .take(HEAD_BYTES.min(bytes))
        .read_to_end(&mut head)?;
    if torch_archive::is_archive(&head) {
        return torch_archive::recognize(reader, bytes);
    }
    if let Some(kind) = magic::recognize(&head, bytes) {
        return Ok(kind);
    }
    if let Some(kind) = protobuf::recognize(&mut reader, bytes) {
        return Ok(kind);
    }
    if magic::is_text(&head) {
        return Ok(ArtifactKind::Text);
    }
    head.truncate(8);
    Ok(ArtifactKind::Unknown { head })
}

#[cfg(test)]
mod tests;
