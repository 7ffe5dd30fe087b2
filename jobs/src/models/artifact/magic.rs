//! Files that their first bytes tell, and folders.

use std::{io, path::Path};

use super::{
    ArtifactKind,
    pickle::{self, Pickled},
    torch_archive,
};

/// Files in a folder that are looked at.
const FILES_MAX: usize = 1000;
/// Longest header of a safetensors file that their readers accept.
const SAFETENSORS_HEADER_BYTES_MAX: u64 = 100_000_000;
/// The pickled number that starts a file of `torch.save` before torch 1.6.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Pickles between that number and the saved object: the version of the protocol, and facts of the machine.
const LEGACY_PICKLES: usize = 2;

/// Formats by their first bytes.
static MAGIC: [(&[u8], ArtifactKind); 12] = [
    (b"\x89HDF\r\n\x1a\n", ArtifactKind::Keras),
    (b"\x7fELF", ArtifactKind::SharedLibrary),
    (b"GGUF", ArtifactKind::Gguf),
    (b"ftrt", ArtifactKind::TensorRt),
    (b"\x93NUMPY", ArtifactKind::Numpy),
    (b"\x1f\x8b", archive("gzip")),
    (b"BZh", archive("bzip2")),
    (b"\xfd7zXZ\0", archive("xz")),
    (b"\x28\xb5\x2f\xfd", archive("zstd")),
    (b"7z\xbc\xaf\x27\x1c", archive("7z")),
    (b"Rar!", archive("rar")),
    (b"PK", ArtifactKind::DamagedArchive { why: String::new() }),
];

const fn archive(format: &'static str) -> ArtifactKind {
    ArtifactKind::Archive {
        format,
        inside: None,
    }
}

/// Tells a file of `bytes` bytes by its head. Protobuf and other text are left out: these have no magic bytes.
pub(super) fn recognize(head: &[u8], bytes: u64) -> Option<ArtifactKind> {
    if bytes == 0 {
        return Some(ArtifactKind::Empty);
    }
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Some(ArtifactKind::LfsPointer {
            bytes: lfs_bytes(head),
        });
    }
    if let Some(kind) = markup(head) {
        return Some(kind);
    }
    if head.starts_with(LEGACY) {
        return Some(torch_archive::of_pickle(legacy(head)));
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind.clone());
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Some(ArtifactKind::TfLite);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(archive("tar"));
    }
    if is_safetensors(head, bytes) {
        return Some(ArtifactKind::Safetensors);
    }
    if is_engine_behind_metadata(head) {
        return Some(ArtifactKind::TensorRt);
    }
    pickle::scan(head).map(|(pickled, _)| torch_archive::of_pickle(pickled))
}

fn lfs_bytes(head: &[u8]) -> Option<u64> {
    let text = str::from_utf8(head).ok()?;
    let size = text.lines().find_map(|line| line.strip_prefix("size "))?;
    size.trim().parse().ok()
}

fn markup(head: &[u8]) -> Option<ArtifactKind> {
    let head = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start();
    let starts_with = |text: &[u8]| {
        let start = head.get(..text.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(text))
    };
    if starts_with(b"<!doctype html") || starts_with(b"<html") {
        Some(ArtifactKind::WebPage)
    } else {
        starts_with(b"<?xml").then_some(ArtifactKind::Xml)
    }
}

/// What stands behind the three pickles at the start of an old file.
fn legacy(head: &[u8]) -> Pickled {
    let mut rest = &head[LEGACY.len()..];
    for _ in 0..LEGACY_PICKLES {
        rest = pickle::scan(rest).map_or(&[][..], |(_, rest)| rest);
    }
    let pickled = pickle::scan(rest).map(|(pickled, _)| pickled);
    pickled.unwrap_or(Pickled::Tensors { key: None })
}

/// The length of a header, then JSON of this length.
fn is_safetensors(head: &[u8], bytes: u64) -> bool {
    let Some((length, json)) = head.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    (2..=SAFETENSORS_HEADER_BYTES_MAX.min(bytes)).contains(&length) && json.starts_with(b"{")
}

/// Ultralytics writes JSON, with its length in front, before a TensorRT engine.
fn is_engine_behind_metadata(head: &[u8]) -> bool {
    let Some((length, json)) = head.split_first_chunk::<4>() else {
        return false;
    };
    let engine = json.get(u32::from_le_bytes(*length) as usize..);
    json.starts_with(b"{") && engine.is_some_and(|engine| engine.starts_with(b"ftrt"))
}

/// Whether the head is text in UTF-8.
pub(super) fn is_text(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !c.is_whitespace())
}

/// A file in the folder that tells what the folder is.
pub(super) fn telling_file(folder: &Path) -> io::Result<Option<String>> {
    let mut names: Vec<_> = std::fs::read_dir(folder)?
        .take(FILES_MAX)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let telling = ["saved_model.pb", "model.json", "data.pkl", "config.json"];
    let telling = telling
        .iter()
        .find(|name| names.iter().any(|found| found == **name));
    Ok(telling.map(|name| (*name).to_owned()))
}
