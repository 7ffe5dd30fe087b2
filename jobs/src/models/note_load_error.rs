use sqlx::PgPool;

use super::cause::first_lines;

/// Keeps the first lines of why a worker could not load a version, for operators. At most one write a minute for a version and
/// a worker; decides nothing.
///
/// # Errors
/// Postgres is away.
pub async fn note_load_error(
    db: &PgPool,
    version_id: i64,
    worker: &str,
    cause: &str,
) -> Result<(), sqlx::Error> {
    let noted = sqlx::query_file!(
        "src/models/note_load_error.sql",
        version_id,
        worker,
        first_lines(cause)
    );
    noted.execute(db).await.map(drop)
}
