//! A model folder on disk.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    artifact,
    check::{NewVersion, field_of, file_mistake, manifest_mistakes, sides},
    examine::{FolderReport, kind_mistake},
};
use crate::{
    Sha256Digest,
    manifest::{Manifest, Mistake, ReadError, Warning, read_labels},
};

/// A model folder that was read and checked.
#[derive(Debug)]
pub struct ModelFolder {
    pub manifest: Manifest,
    pub digest: Sha256Digest,
    files: Vec<ModelFile>,
}

/// One file that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    pub name: String,
    pub path: PathBuf,
    pub sha256: Sha256Digest,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{path} is not a manifest: {source}")]
    BadManifest { path: PathBuf, source: ReadError },
    /// `path`: the folder.
    #[error("{path} cannot be pushed:{}", lines(.mistakes))]
    Wrong {
        path: PathBuf,
        mistakes: Vec<Mistake>,
    },
}

fn lines(mistakes: &[Mistake]) -> String {
    // Advice about a wrong file has several lines.
    let lines = mistakes
        .iter()
        .map(|mistake| format!("\n{mistake}").replace('\n', "\n  "));
    lines.collect()
}

impl ModelFolder {
    /// Reads `model.json`, and checks and hashes the files that it names.
    ///
    /// # Errors
    /// A file is missing, or the manifest or a file has mistakes: all of them are named.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join("model.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) => return Err(FolderError::Unreadable { path, source }),
        };
        let manifest = match Manifest::read(&text) {
            Ok(manifest) => manifest,
            Err(ReadError::Mistakes(mistakes)) => return Err(wrong(folder, mistakes)),
            Err(source) => return Err(FolderError::BadManifest { path, source }),
        };
        let mut mistakes = manifest_mistakes(&manifest);
        let mut files = Vec::new();
        // A name with a mistake may lead anywhere.
        if mistakes.is_empty() {
            for name in manifest.files() {
                let path = folder.join(name);
                match read_file(&manifest, name, path) {
                    Ok((file, mistake)) => {
                        files.push(file);
                        mistakes.extend(mistake);
                    }
                    Err(error) => mistakes.push(Mistake {
                        field: field_of(&manifest, name).to_owned(),
                        detail: format!("`{name}` cannot be read: {error}"),
                    }),
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(wrong(folder, mistakes));
        }
        let digests = files.iter().map(|file| (file.name.clone(), file.sha256));
        let version = NewVersion::new(manifest, digests.collect());
        Ok(Self {
            manifest: version.manifest,
            digest: version.digest,
            files,
        })
    }

    /// The files that the manifest names.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// What the person who pushes the folder should look at. Labels that cannot be read any more have no warning.
    pub fn warnings(&self) -> Vec<Warning> {
        let labels = self.manifest.labels.as_ref();
        let labels = labels.and_then(|name| self.files.iter().find(|file| file.name == *name));
        let labels = labels.and_then(|file| read_labels(&std::fs::read(&file.path).ok()?).ok());
        let of_labels = labels.and_then(|labels| self.manifest.labels_warning(&labels));
        let mut warnings = self.manifest.warnings();
        warnings.extend(of_labels);
        warnings
    }

    /// What a push of this folder registers.
    pub fn version(&self) -> NewVersion {
        let digests = self
            .files
            .iter()
            .map(|file| (file.name.clone(), file.sha256));
        NewVersion {
            manifest: self.manifest.clone(),
            files: digests.collect(),
            digest: self.digest,
        }
    }
}

/// The error of a folder with these mistakes, and with those that [`FolderReport`] finds in other fields.
fn wrong(folder: &Path, mut mistakes: Vec<Mistake>) -> FolderError {
    let mut further = FolderReport::of(folder).mistakes;
    further.retain(|one| {
        let is_known = |known: &Mistake| {
            let within = one.field.strip_prefix(&known.field);
            within.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !mistakes.iter().any(is_known)
    });
    mistakes.extend(further);
    FolderError::Wrong {
        path: folder.to_owned(),
        mistakes,
    }
}

fn read_file(
    manifest: &Manifest,
    name: &str,
    path: PathBuf,
) -> io::Result<(ModelFile, Option<Mistake>)> {
    let mut file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    let mut mistake = file_mistake(manifest, name, &mut file, bytes)?;
    if mistake.is_none() && manifest.labels.as_deref() != Some(name) {
        file.rewind()?;
        let damage = artifact::find_damage(&mut file, bytes)?;
        let detail =
            damage.and_then(|kind| kind_mistake(&kind, name, &manifest.method, sides(manifest)));
        mistake = detail.map(|detail| Mistake {
            field: field_of(manifest, name).to_owned(),
            detail: format!("{name}: {detail}"),
        });
    }
    file.rewind()?;
    let (sha256, bytes) = hash(file)?;
    let name = name.to_owned();
    Ok((
        ModelFile {
            name,
            path,
            sha256,
            bytes,
        },
        mistake,
    ))
}

fn hash(mut file: File) -> io::Result<(Sha256Digest, u64)> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Sha256Digest::finish(hasher), bytes)),
            length => {
                hasher.update(&buffer[..length]);
                bytes += length as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::ModelFolder;

    #[test]
    fn a_folder_is_refused_with_all_its_mistakes_and_recipes_of_its_size() {
        let name = format!("darkroom-folder-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let manifest = json!({
            "name": "net", "task": "classify", "artifact": "net.pth", "labels": "labels.txt", "batch_maxx": 4,
            "input": {"width": 320, "height": 240, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
        });
        std::fs::write(folder.join("model.json"), manifest.to_string()).expect("a file");
        std::fs::write(folder.join("labels.txt"), "\n").expect("a file");
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/artifacts/state-dict.pth"
        );
        std::fs::copy(fixture, folder.join("net.pth")).expect("a fixture");
        let told = ModelFolder::read(&folder).map_err(|error| error.to_string());
        let _ = std::fs::remove_dir_all(&folder);
        let told = told.expect_err("mistakes");
        let head = format!("{} cannot be pushed:\n", folder.display());
        assert!(told.starts_with(&head), "{told}");
        for part in [
            "batch_maxx: ",
            "artifact: net.pth: a state_dict",
            "labels: ",
        ] {
            assert!(
                told.contains(&format!("\n  {part}")),
                "no {part} in:\n{told}"
            );
        }
        assert!(told.contains("torch.zeros(1, 3, 240, 320)"), "{told}");
    }
}
