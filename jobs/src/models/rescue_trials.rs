use sqlx::PgExecutor;

/// Takes trials back from workers that vanished, left, or did not end in time. Returns how many.
///
/// A vanished worker is charged to the version: the third one rejects it, because the version may be what kills workers.
///
/// # Errors
/// Postgres is away.
pub async fn rescue_trials(db: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let rescued = sqlx::query_file_scalar!("src/models/rescue_trials.sql");
    Ok(rescued.fetch_all(db).await?.len() as u64)
}
