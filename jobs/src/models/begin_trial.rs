use sqlx::PgPool;

/// Tries a version that is not ready: a rejected one again, a validating one still. It then gets `alias`. Returns false if the
/// version is ready: there is nothing to try.
///
/// # Errors
/// Postgres is away.
pub(super) async fn begin_trial(
    db: &PgPool,
    version_id: i64,
    alias: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query_file!("src/models/begin_trial.sql", version_id, alias);
    Ok(begun.fetch_one(db).await?.has_begun)
}
