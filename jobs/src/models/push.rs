//! `darkroom models push`: makes an immutable version of a folder.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{DEFAULT_ALIAS, examine::artifact_mistake, object_key};
use crate::{
    Sha256Digest,
    manifest::{Manifest, Mistake},
    object_store::{Body, ObjectStore, StoreError},
};

/// A model folder that was read and checked.
#[derive(Debug)]
pub struct ModelFolder {
    pub manifest: Manifest,
    pub digest: Sha256Digest,
    files: BTreeMap<String, (PathBuf, Sha256Digest)>,
}

/// The version that a push registered or found.
#[derive(Debug)]
pub struct PushedVersion {
    pub name: String,
    pub version: i32,
    pub digest: Sha256Digest,
    /// `false` if a folder with equal content was pushed before.
    pub is_new: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("cannot read {path}: {source}")]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a manifest: {source}")]
    BadManifest {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{path} is not a manifest to run: {}", lines(.mistakes))]
    WrongManifest {
        path: PathBuf,
        mistakes: Vec<Mistake>,
    },
    #[error("the manifest names `{0}`, which leads out of its folder")]
    OutsideFolder(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Postgres: {0}")]
    Db(#[from] sqlx::Error),
}

fn lines(mistakes: &[Mistake]) -> String {
    // Advice about a wrong file has several lines.
    let lines = mistakes
        .iter()
        .map(|mistake| format!("\n{mistake}").replace('\n', "\n  "));
    lines.collect()
}

impl ModelFolder {
    /// Reads `model.json` and hashes the files that it names.
    ///
    /// # Errors
    /// A file is missing, the manifest is malformed or has mistakes, or an artifact is none that workers run.
    pub fn read(folder: &Path) -> Result<Self, PushError> {
        let path = folder.join("model.json");
        let text = std::fs::read(&path).map_err(|source| PushError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| PushError::BadManifest {
                path: path.clone(),
                source,
            })?;
        let mistakes = manifest.mistakes();
        if !mistakes.is_empty() {
            return Err(PushError::WrongManifest { path, mistakes });
        }
        let (mut files, mut mistakes) = (BTreeMap::new(), Vec::new());
        for name in manifest.files() {
            if name.contains('/') || name.starts_with('.') {
                return Err(PushError::OutsideFolder(name.to_owned()));
            }
            let path = folder.join(name);
            let unreadable = |source| PushError::Unreadable {
                path: path.clone(),
                source,
            };
            if manifest.labels.as_deref() != Some(name) {
                let found = artifact_mistake(&path, name, &manifest.method).map_err(unreadable)?;
                if let Some(detail) = found {
                    let field = "artifact".into();
                    mistakes.push(Mistake { field, detail });
                    continue;
                }
            }
            let sha256 = hash(&path).map_err(unreadable)?;
            files.insert(name.to_owned(), (path, sha256));
        }
        if !mistakes.is_empty() {
            return Err(PushError::WrongManifest { path, mistakes });
        }
        let digest = digest(&manifest, &files);
        Ok(Self {
            manifest,
            digest,
            files,
        })
    }
}

/// Digest of the whole version: of the manifest as compact JSON, followed by a line for each file.
fn digest(manifest: &Manifest, files: &BTreeMap<String, (PathBuf, Sha256Digest)>) -> Sha256Digest {
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(manifest).expect("a manifest came from JSON"));
    for (name, (_, sha256)) in files {
        hasher.update(format!("\n{name} {sha256}"));
    }
    Sha256Digest::finish(hasher)
}

fn hash(path: &Path) -> std::io::Result<Sha256Digest> {
    let (mut file, mut hasher) = (std::fs::File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Sha256Digest::finish(hasher)),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// Uploads the files that the store lacks, then registers the version. A second push of equal content changes only `alias`.
///
/// The first version of a model becomes its `default`. The first model becomes the default model.
///
/// # Errors
/// See [`PushError`]. After an error the version does not exist.
pub async fn push(
    db: &PgPool,
    store: &ObjectStore,
    folder: &ModelFolder,
    alias: Option<&str>,
) -> Result<PushedVersion, PushError> {
    for (path, sha256) in folder.files.values() {
        let key = object_key(*sha256);
        if !store.exists(&key).await? {
            store
                .put(&key, Body::File(path), *sha256, "application/octet-stream")
                .await?;
        }
    }
    let files: BTreeMap<_, _> = folder
        .files
        .iter()
        .map(|(name, (_, sha256))| (name, sha256))
        .collect();
    let row = sqlx::query_file!(
        "src/models/push.sql",
        folder.manifest.name,
        folder.digest.as_bytes().as_slice(),
        folder.manifest.task.to_string(),
        serde_json::to_value(&folder.manifest).expect("a manifest came from JSON"),
        serde_json::to_value(files).expect("names and digests"),
    )
    .fetch_one(db)
    .await?;
    for (alias, moves) in [(Some(DEFAULT_ALIAS), false), (alias, true)] {
        let Some(alias) = alias else { continue };
        sqlx::query!(
            "insert into model_aliases as a (model_id, alias, model_version_id) values ($1, $2, $3)
             on conflict (model_id, alias) do update set model_version_id = $3, updated_at = now() where $4",
            row.model_id,
            alias,
            row.model_version_id,
            moves,
        )
        .execute(db)
        .await?;
    }
    Ok(PushedVersion {
        name: folder.manifest.name.clone(),
        version: row.version,
        digest: folder.digest,
        is_new: row.is_new,
    })
}
