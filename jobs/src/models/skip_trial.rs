use sqlx::PgPool;

/// Makes a version ready without a trial. A worker that tries it loses the trial.
///
/// # Errors
/// Postgres is away.
pub(super) async fn skip_trial(db: &PgPool, version_id: i64) -> Result<(), sqlx::Error> {
    let skipped = sqlx::query_file!("src/models/skip_trial.sql", version_id);
    skipped.execute(db).await.map(drop)
}
