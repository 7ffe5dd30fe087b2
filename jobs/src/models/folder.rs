//! A model folder on disk.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    artifact,
    check::{NewVersion, field_of, file_mistake, manifest_mistakes},
    examine::kind_mistake,
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
    #[error("{path} is not a manifest to run: {}", lines(.mistakes))]
    WrongManifest {
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
        let unreadable = |path: &Path, source| FolderError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read(&path).map_err(|source| unreadable(&path, source))?;
        let manifest = Manifest::read(&text).map_err(|source| match source {
            ReadError::Mistakes(mistakes) => FolderError::WrongManifest {
                path: path.clone(),
                mistakes,
            },
            source => FolderError::BadManifest {
                path: path.clone(),
                source,
            },
        })?;
        let mut mistakes = manifest_mistakes(&manifest);
        let mut files = Vec::new();
        // A name with a mistake may lead anywhere.
        if mistakes.is_empty() {
            for name in manifest.files() {
                let path = folder.join(name);
                let read = read_file(&manifest, name, path.clone());
                let (file, mistake) = read.map_err(|source| unreadable(&path, source))?;
                files.push(file);
                mistakes.extend(mistake);
            }
        }
        if !mistakes.is_empty() {
            return Err(FolderError::WrongManifest { path, mistakes });
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
        let detail = damage.and_then(|kind| kind_mistake(&kind, name, &manifest.method));
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
