//! The model registry: names, immutable versions, movable aliases. The object store has the files, named by their digest.

mod alias;
pub mod artifact;
mod examine;
mod push;
mod resolve;
mod retire;

use std::collections::BTreeMap;

pub use alias::{SetAliasOutcome, is_alias, set_alias};
pub use examine::{ArtifactReport, FolderReport, LabelsReport, kind_mistake};
pub use push::{ModelFolder, PushError, PushedVersion, push};
pub use resolve::{Resolved, Resolver, resolve_all};
pub use retire::{RetireOutcome, retire};
use sqlx::{PgPool, types::Json};

use crate::{Sha256Digest, job::ResolvedModel, manifest::Manifest};

/// The alias of a reference that is only a name.
pub const DEFAULT_ALIAS: &str = "default";

/// One immutable version, with all that a worker needs to load it.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    pub id: i64,
    pub model_id: i64,
    pub name: String,
    pub version: i32,
    pub digest: Sha256Digest,
    pub manifest: Manifest,
    /// Digests by file name; a file is stored under its digest.
    pub files: BTreeMap<String, Sha256Digest>,
    pub aliases: Vec<String>,
    pub is_default: bool,
    pub retired: bool,
}

impl ModelVersion {
    /// `name:version`, as clients write it.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }

    pub fn resolved(&self) -> ResolvedModel {
        ResolvedModel {
            name: self.name.clone(),
            version: self.version,
            digest: self.digest,
        }
    }
}

/// The key of a model file in the bucket.
pub fn object_key(sha256: Sha256Digest) -> String {
    format!("models/{}", sha256.hex())
}

/// A version by its row id, which claims contain.
///
/// # Errors
/// Postgres is away, or the manifest has a newer schema than this program knows.
pub async fn version(db: &PgPool, id: i64) -> Result<Option<ModelVersion>, sqlx::Error> {
    Ok(rows(db, Some(id)).await?.pop())
}

/// Every version of every model, by name, newest version first.
///
/// # Errors
/// As [`version`].
pub async fn list(db: &PgPool) -> Result<Vec<ModelVersion>, sqlx::Error> {
    rows(db, None).await
}

async fn rows(db: &PgPool, id: Option<i64>) -> Result<Vec<ModelVersion>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select v.model_version_id, v.model_id, m.name, v.version, v.digest, m.is_default,
                  v.manifest as "manifest: Json<Manifest>", v.files as "files: Json<BTreeMap<String, Sha256Digest>>",
                  v.retired_at is not null as "retired!",
                  array(select a.alias from model_aliases a where a.model_version_id = v.model_version_id order by a.alias) as "aliases!"
           from model_versions v join models m using (model_id)
           where $1::bigint is null or v.model_version_id = $1
           order by m.name, v.version desc"#,
        id
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ModelVersion {
                id: row.model_version_id,
                model_id: row.model_id,
                name: row.name,
                version: row.version,
                digest: row
                    .digest
                    .as_slice()
                    .try_into()
                    .map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
                manifest: row.manifest.0,
                files: row.files.0,
                aliases: row.aliases,
                is_default: row.is_default,
                retired: row.retired,
            })
        })
        .collect()
}
