//! The checks of a push, whether the files are in a folder or in the object store.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek},
};

use sha2::{Digest, Sha256};

use super::{artifact, examine::kind_mistake};
use crate::{
    Sha256Digest,
    manifest::{LABELS_BYTES_MAX, Manifest, Mistake, read_labels},
};

/// A version that a push can register: a manifest and the digests of its files.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub manifest: Manifest,
    /// Digests by file name.
    pub files: BTreeMap<String, Sha256Digest>,
    /// SHA-256 of the manifest as compact JSON, followed by a line for each file.
    pub digest: Sha256Digest,
}

impl NewVersion {
    pub fn new(manifest: Manifest, files: BTreeMap<String, Sha256Digest>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(serde_json::to_vec(&manifest).expect("a manifest came from JSON"));
        for (name, sha256) in &files {
            hasher.update(format!("\n{name} {sha256}"));
        }
        Self {
            digest: Sha256Digest::finish(hasher),
            manifest,
            files,
        }
    }
}

/// All mistakes of a manifest that is pushed: those of [`Manifest::mistakes`], and names that lead out of the model's folder.
pub fn manifest_mistakes(manifest: &Manifest) -> Vec<Mistake> {
    let mut mistakes = manifest.mistakes();
    for name in manifest.files() {
        if name.is_empty() || name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            mistakes.push(Mistake {
                field: field_of(manifest, name).to_owned(),
                detail: format!("`{name}` is not the name of a file beside the manifest"),
            });
        }
    }
    mistakes
}

/// The mistake of one file of `bytes` bytes, which `file` reads; `None` if the file can be registered. Its field is the one that
/// names the file.
///
/// # Errors
/// The file cannot be read.
pub fn file_mistake(
    manifest: &Manifest,
    name: &str,
    file: &mut (impl Read + Seek),
    bytes: u64,
) -> io::Result<Option<Mistake>> {
    let detail = if manifest.labels.as_deref() == Some(name) {
        labels_mistake(file)?
    } else {
        artifact_mistake(manifest, name, file, bytes)?
    };
    Ok(detail.map(|detail| Mistake {
        field: field_of(manifest, name).to_owned(),
        detail: format!("{name}: {detail}"),
    }))
}

/// The field of the manifest that names this file.
pub(super) fn field_of(manifest: &Manifest, name: &str) -> &'static str {
    if manifest.labels.as_deref() == Some(name) {
        "labels"
    } else if manifest.artifact == name {
        "artifact"
    } else {
        "artifacts"
    }
}

/// Height and width of the input, for recipes; `None` if the manifest has mistakes there.
pub(super) fn sides(manifest: &Manifest) -> Option<(u32, u32)> {
    let (height, width) = (manifest.input.height, manifest.input.width);
    (height > 0 && width > 0).then_some((height, width))
}

fn labels_mistake(file: &mut impl Read) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    file.take(LABELS_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)?;
    let mistakes = read_labels(&text).err();
    Ok(mistakes.map(|mistakes| {
        let details: Vec<_> = mistakes.into_iter().map(|one| one.detail).collect();
        details.join("; ")
    }))
}

/// Tells by its bytes whether workers can load the file. Checksums of the parts are not compared: a stored file has its digest.
fn artifact_mistake(
    manifest: &Manifest,
    name: &str,
    file: &mut (impl Read + Seek),
    bytes: u64,
) -> io::Result<Option<String>> {
    let kind = artifact::recognize(file, bytes)?;
    Ok(kind_mistake(&kind, name, &manifest.method, sides(manifest)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use serde_json::{Value, json};

    use super::{file_mistake, manifest_mistakes};
    use crate::manifest::{LABELS_BYTES_MAX, Manifest};

    fn manifest(artifact: &str, labels: &str) -> Manifest {
        let manifest: Value = json!({
            "name": "lite", "task": "classify", "artifact": artifact, "labels": labels,
            "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
        });
        serde_json::from_value(manifest).expect("a manifest")
    }

    #[test]
    fn a_file_outside_of_the_folder_is_a_mistake_of_its_field() {
        let fields = |artifact, labels| {
            let mistakes = manifest_mistakes(&manifest(artifact, labels)).into_iter();
            mistakes.map(|one| one.field).collect::<Vec<_>>()
        };
        assert!(fields("model.pt", "labels.txt").is_empty());
        assert_eq!(fields("../model.pt", "labels.txt"), ["artifact"]);
        assert_eq!(fields(".model", "a/labels.txt"), ["artifact", "labels"]);
        assert_eq!(fields("", "C:\\labels.txt"), ["artifact", "labels"]);
    }

    #[test]
    fn labels_are_utf8_with_a_label_and_not_too_long() {
        let manifest = manifest("model.pt", "labels.txt");
        let mistake = |text: Vec<u8>| {
            let bytes = text.len() as u64;
            let mistake = file_mistake(&manifest, "labels.txt", &mut Cursor::new(text), bytes);
            mistake
                .expect("memory can be read")
                .map(|mistake| mistake.to_string())
        };
        assert_eq!(mistake(b"cat\ndog\n".into()), None);
        for (text, why) in [
            (b"caf\xe9".to_vec(), "UTF-8"),
            (b"\n\n".to_vec(), "no label"),
            (vec![b'a'; LABELS_BYTES_MAX + 1], "more than"),
        ] {
            let mistake = mistake(text).expect("a mistake");
            assert!(mistake.starts_with("labels: labels.txt: "), "{mistake}");
            assert!(mistake.contains(why), "{mistake}");
        }
    }
}
