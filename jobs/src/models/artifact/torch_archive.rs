//! Archives: nearly all that PyTorch writes is a zip.

use std::{
    collections::BTreeSet,
    io::{self, Read, Seek},
    path::Path,
};

use super::{
    ArtifactKind, TorchScriptCode,
    archive::{Archive, ArchiveError},
    pickle::{self, Pickled},
    words::printable,
};

/// Bytes of `data.pkl` that are looked at. Classes and keys stand at its beginning.
const PICKLE_BYTES_MAX: u64 = 4 << 20;
/// Code of a TorchScript file that is read. That of a large model has about 1 MB.
const CODE_BYTES_MAX: u64 = 16 << 20;
/// Names of files that are models by themselves.
const MODEL_ENDINGS: [&str; 8] = [
    ".pt",
    ".pth",
    ".pt2",
    ".ckpt",
    ".safetensors",
    ".onnx",
    ".h5",
    ".tflite",
];

pub(super) fn is_archive(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Tells what an archive is.
pub(super) fn recognize(reader: impl Read + Seek, bytes: u64) -> io::Result<ArtifactKind> {
    let kind = Archive::open(reader, bytes).and_then(|mut archive| by_content(&mut archive));
    match kind {
        Ok(kind) => Ok(kind),
        Err(ArchiveError::CutOff(why)) => Ok(ArtifactKind::CutOff { why }),
        Err(ArchiveError::Damaged(why)) => Ok(ArtifactKind::DamagedArchive { why }),
        Err(ArchiveError::Io(error)) => Err(error),
    }
}

fn by_content(archive: &mut Archive<impl Read + Seek>) -> Result<ArtifactKind, ArchiveError> {
    if archive.has(|name| name.contains("data/aotinductor/")) {
        let is_library =
            |name: &str| name.contains("data/aotinductor/") && has_extension(name, "so");
        return Ok(if archive.has(is_library) {
            ArtifactKind::AotInductor
        } else {
            ArtifactKind::AotInductorSource
        });
    }
    // libtorch looks below the first folder of the archive only.
    let first = archive
        .entries
        .first()
        .map_or("", |entry| entry.name.as_str());
    let root = first
        .split_once('/')
        .map_or("", |(root, _)| root)
        .to_owned();
    let is_exported = |name: &str| {
        name == "serialized_exported_program.json"
            || below(&root, name).is_some_and(|name| {
                name == "serialized_exported_program.json"
                    || name.starts_with("models/") && has_extension(name, "json")
            })
    };
    if archive.has(is_exported) {
        return Ok(ArtifactKind::ExportedProgram);
    }
    let has_in_root = |wanted: &str| archive.has(|name| below(&root, name) == Some(wanted));
    let has_code =
        archive.has(|name| below(&root, name).is_some_and(|name| name.starts_with("code/")));
    if has_code && (has_in_root("constants.pkl") || has_in_root("model.json")) {
        let is_code = |name: &str| {
            below(&root, name)
                .is_some_and(|name| name.starts_with("code/") && has_extension(name, "py"))
        };
        let files = archive.entries.iter().enumerate();
        let files: Vec<_> = files
            .filter(|(_, entry)| is_code(&entry.name))
            .map(|(at, _)| at)
            .collect();
        return read_code(archive, &files).map(ArtifactKind::TorchScript);
    }
    if archive.has(|name| name.ends_with(".data/extern_modules")) {
        return Ok(ArtifactKind::TorchPackage);
    }
    if archive.has(|name| name == "MAR-INF/MANIFEST.json") {
        return Ok(ArtifactKind::TorchServe);
    }
    let pickle = archive
        .entries
        .iter()
        .position(|entry| below(&root, &entry.name) == Some("data.pkl"));
    if let Some(pickle) = pickle {
        let content = archive.head(pickle, PICKLE_BYTES_MAX)?;
        if let Some((pickled, _)) = pickle::scan(&content) {
            return Ok(of_pickle(pickled));
        }
    }
    if archive.has(|name| name == "model.weights.h5") {
        return Ok(ArtifactKind::Keras);
    }
    if !archive.entries.is_empty() && !archive.has(|name| !has_extension(name, "npy")) {
        return Ok(ArtifactKind::Numpy);
    }
    let is_model = |name: &str| {
        name.ends_with("saved_model.pb")
            || MODEL_ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    let inside = archive.entries.iter().find(|entry| is_model(&entry.name));
    Ok(ArtifactKind::Archive {
        format: "zip",
        inside: inside.map(|entry| printable(&entry.name)),
    })
}

/// The part of the name below the folder `root`.
fn below<'a>(root: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(root)?.strip_prefix('/')
}

pub(super) fn of_pickle(pickled: Pickled) -> ArtifactKind {
    match pickled {
        Pickled::Tensors { key } => ArtifactKind::StateDict { key },
        Pickled::Module { class, key } => ArtifactKind::PickledModule { class, key },
        Pickled::Object { class } => ArtifactKind::PickledObject { class },
    }
}

fn read_code(
    archive: &mut Archive<impl Read + Seek>,
    files: &[usize],
) -> Result<TorchScriptCode, ArchiveError> {
    let mut code = TorchScriptCode {
        methods: Some(BTreeSet::new()),
        ..TorchScriptCode::default()
    };
    let mut bytes_left = CODE_BYTES_MAX;
    for file in files {
        let read = archive.each_line(*file, bytes_left, |line| code.add_line(line))?;
        bytes_left = bytes_left.saturating_sub(read.unwrap_or(0));
        if read.is_none() || bytes_left == 0 {
            code.methods = None;
        }
        if bytes_left == 0 {
            break;
        }
    }
    Ok(code)
}

/// Whether the name of an entry ends with this extension.
fn has_extension(name: &str, extension: &str) -> bool {
    let found = Path::new(name).extension();
    found.is_some_and(|found| found == extension)
}
