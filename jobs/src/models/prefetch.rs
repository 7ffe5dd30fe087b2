use sqlx::PgPool;

use super::VersionState;
use crate::WorkerId;

/// Result of [`prefetch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefetchOutcome {
    /// Workers load the version soon.
    Asked,
    NotFound,
    Retired,
    /// The version is validating or rejected.
    NotReady(VersionState),
}

/// How many workers have a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadedCount {
    /// Live workers that run the model and are not leaving.
    pub workers: i64,
    /// Those of them that have loaded the version.
    pub loaded: i64,
}

/// Asks the workers that run a model to load a version, before an alias moves to it. Idempotent. `actor` is the name for the
/// audit.
///
/// # Errors
/// Postgres is away.
pub async fn prefetch(
    db: &PgPool,
    model: &str,
    version: i32,
    actor: &str,
) -> Result<PrefetchOutcome, sqlx::Error> {
    let outcome = sqlx::query_scalar!(
        r#"select audited('prefetch', $1, jsonb_build_object('version', $2::int), prefetch_model_version($1, $2), $3) as "outcome!""#,
        model,
        version,
        actor
    );
    Ok(match outcome.fetch_one(db).await?.as_str() {
        "asked" => PrefetchOutcome::Asked,
        "not found" => PrefetchOutcome::NotFound,
        "retired" => PrefetchOutcome::Retired,
        state => PrefetchOutcome::NotReady(VersionState::parse(state)?),
    })
}

/// How many of the workers that run the model have loaded the version. Workers report within about a second.
///
/// # Errors
/// Postgres is away.
pub async fn count_loaded(
    db: &PgPool,
    model: &str,
    version: i32,
) -> Result<LoadedCount, sqlx::Error> {
    sqlx::query_file_as!(
        LoadedCount,
        "src/models/count_loaded.sql",
        model,
        format!("{model}:{version}")
    )
    .fetch_one(db)
    .await
}

/// A version that workers were asked to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WantedPrefetch {
    pub version_id: i64,
    /// Changes when workers are asked again: microseconds by the clock of the database, for comparison only.
    pub asked_at: i64,
}

/// The versions that `worker` was asked to load within the last ten minutes, oldest request first; 20 at most.
///
/// # Errors
/// Postgres is away.
pub async fn wanted_prefetches(
    db: &PgPool,
    worker: WorkerId,
) -> Result<Vec<WantedPrefetch>, sqlx::Error> {
    sqlx::query_file_as!(WantedPrefetch, "src/models/wanted_prefetches.sql", worker.0)
        .fetch_all(db)
        .await
}
