//! Registers a version: the verb behind `darkroom models push` and `POST /v1/models/{name}/versions`.

use std::collections::BTreeMap;

use sqlx::{PgPool, types::Json};
use wire::MovedAlias;

use super::{CheckedSignature, ModelFolder, VersionState, check::NewVersion, object_key};
use crate::{
    Sha256Digest,
    object_store::{Body, ObjectStore, StoreError},
};

/// How a version is pushed.
#[derive(Debug, Clone, Copy, Default)]
pub struct PushOptions<'a> {
    /// The alias to point at the version.
    pub alias: Option<&'a str>,
    /// Whether a worker has to load the version before jobs may name it and an alias moves.
    pub trial: bool,
    /// Name for the audit; the login of the database if left out.
    pub actor: Option<&'a str>,
    /// Stored with the version.
    pub signature: Option<&'a CheckedSignature>,
}

/// The version that a push registered or found.
#[derive(Debug, Clone)]
pub struct PushedVersion {
    pub name: String,
    pub version: i32,
    pub digest: Sha256Digest,
    /// `false` if equal content was pushed before.
    pub is_new: bool,
    pub id: i64,
    /// `Validating`: the aliases move once a worker has loaded the version.
    pub state: VersionState,
    /// The aliases that this push moved.
    pub moved: Vec<MovedAlias>,
    /// Every alias of the model, and the version that it means now.
    pub aliases: BTreeMap<String, i32>,
}

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The folder was pushed before and retired since, and the push wants an alias. Nothing has changed.
    #[error("{name}:{version} is retired, so no alias can mean it")]
    Retired { name: String, version: i32 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Postgres: {0}")]
    Db(#[from] sqlx::Error),
}

/// Uploads the files that the store lacks, then registers the version as [`register`] does.
///
/// With `trial` a version that is not ready waits until a worker has loaded it, and so do its aliases. A rejected version is tried
/// again. Without `trial` the version is ready at once.
///
/// # Errors
/// See [`PushError`]. After an error no version and no alias has changed.
pub async fn push(
    db: &PgPool,
    store: &ObjectStore,
    folder: &ModelFolder,
    alias: Option<&str>,
    trial: bool,
) -> Result<PushedVersion, PushError> {
    let options = PushOptions {
        alias,
        trial,
        ..PushOptions::default()
    };
    push_with(db, store, folder, &options).await
}

/// [`push`] with all options.
///
/// # Errors
/// As [`push`].
pub async fn push_with(
    db: &PgPool,
    store: &ObjectStore,
    folder: &ModelFolder,
    options: &PushOptions<'_>,
) -> Result<PushedVersion, PushError> {
    for file in folder.files() {
        let key = object_key(file.sha256);
        if !store.exists(&key).await? {
            let body = Body::File(&file.path);
            store
                .put(&key, body, file.sha256, "application/octet-stream")
                .await?;
        }
    }
    register(db, &folder.version(), options).await
}

/// Registers a version whose files are stored, and writes the audit. A second push of equal content changes only the alias.
///
/// The first ready version of a model becomes its `default`. The first model with one becomes the default model.
///
/// # Errors
/// [`PushError::Retired`], or Postgres is away.
pub async fn register(
    db: &PgPool,
    version: &NewVersion,
    options: &PushOptions<'_>,
) -> Result<PushedVersion, PushError> {
    let name = &version.manifest.name;
    let row = sqlx::query!(
        r#"select id as "id!", version as "version!", outcome as "outcome!", state as "state!",
                  moved as "moved!: Json<Vec<MovedAlias>>", aliases as "aliases!: Json<BTreeMap<String, i32>>"
           from push_model_version($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
        name,
        version.digest.as_bytes().as_slice(),
        version.manifest.task.to_string(),
        serde_json::to_value(&version.manifest).expect("a manifest came from JSON"),
        serde_json::to_value(&version.files).expect("names and digests"),
        options.alias,
        options.trial,
        options.actor,
        options.signature.map(CheckedSignature::text),
        options.signature.map(CheckedSignature::signed_by),
    )
    .fetch_one(db)
    .await?;
    if row.outcome == "retired" {
        return Err(PushError::Retired {
            name: name.clone(),
            version: row.version,
        });
    }
    Ok(PushedVersion {
        name: name.clone(),
        version: row.version,
        digest: version.digest,
        is_new: row.outcome == "new",
        id: row.id,
        state: VersionState::parse(&row.state)?,
        moved: row.moved.0,
        aliases: row.aliases.0,
    })
}

/// Whether this version is registered, retired or not.
///
/// # Errors
/// Postgres is away.
pub async fn is_registered(db: &PgPool, version: &NewVersion) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from model_versions v join models m using (model_id) where m.name = $1 and v.digest = $2) as "known!""#,
        version.manifest.name,
        version.digest.as_bytes().as_slice(),
    )
    .fetch_one(db)
    .await
}
