//! The model registry: names, immutable versions, movable aliases. The object store has the files, named by their digest.

mod alias;
pub mod artifact;
mod cause;
mod check;
mod claim_trial;
mod end_trial;
mod examine;
mod folder;
mod note_load_error;
mod prefetch;
mod push;
mod rescue_trials;
mod resolve;
mod retire;
mod signature;
mod state;
mod stored;
mod unready;

use std::collections::BTreeMap;

pub use alias::{DeleteAliasOutcome, SetAliasOutcome, delete_alias, is_alias, set_alias};
pub use check::{NewVersion, file_mistake, manifest_mistakes};
use chrono::{DateTime, Utc};
pub use claim_trial::{Trial, claim_trial};
pub use end_trial::{Verdict, end_trial};
pub use examine::{ArtifactReport, FolderReport, LabelsReport, kind_mistake};
pub use folder::{FolderError, ModelFile, ModelFolder};
pub use note_load_error::note_load_error;
pub use prefetch::{
    LoadedCount, PrefetchOutcome, WantedPrefetch, count_loaded, prefetch, wanted_prefetches,
};
pub use push::{PushError, PushOptions, PushedVersion, is_registered, push, push_with, register};
pub use rescue_trials::rescue_trials;
pub use resolve::{Resolved, Resolver, current_reference, resolve_all};
pub use retire::{RetireOutcome, retire, unretire};
pub use signature::{CheckedSignature, ModelPublicKey, SignatureError, SigningConfig, statement};
use sqlx::{PgPool, types::Json};
pub use state::VersionState;
pub use stored::{StoredFile, WantedFile, find_file, stored_file_mistake};
pub use unready::{UnreadyVersion, find_unready};

use crate::{Sha256Digest, job::ResolvedModel, manifest::Manifest};

/// Wakes workers that look for trials and prefetches. The payload is empty.
pub const TRIALS_CHANNEL: &str = "darkroom_trials";

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
    /// What the last signed push brought. [`SigningConfig::check_version`] says whether it is worth something.
    pub signature: Option<String>,
    pub aliases: Vec<String>,
    pub is_default: bool,
    pub retired: bool,
    pub state: VersionState,
    /// Why it was rejected; while it is validating, why earlier workers could not decide. For operators only.
    pub state_cause: Option<String>,
    /// The worker that decided, or that wrote the first line of the cause.
    pub state_worker: Option<String>,
    /// The alias that moves to it when its trial passes.
    pub alias_wanted: Option<String>,
    /// Why a worker last failed to load it. For operators only.
    pub load_error: Option<LoadErrorNote>,
}

/// Why a worker could not load a version: the first lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadErrorNote {
    pub cause: String,
    pub worker: String,
    pub at: DateTime<Utc>,
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
                  v.signature, v.retired_at is not null as "retired!", v.state, v.state_cause, v.state_worker, v.alias_wanted,
                  v.load_error, v.load_error_worker, v.load_error_at,
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
                signature: row.signature,
                aliases: row.aliases,
                is_default: row.is_default,
                retired: row.retired,
                state: VersionState::parse(&row.state)?,
                state_cause: row.state_cause,
                state_worker: row.state_worker,
                alias_wanted: row.alias_wanted,
                load_error: match (row.load_error, row.load_error_at) {
                    (Some(cause), Some(at)) => Some(LoadErrorNote {
                        cause,
                        worker: row.load_error_worker.unwrap_or_default(),
                        at,
                    }),
                    _ => None,
                },
            })
        })
        .collect()
}
