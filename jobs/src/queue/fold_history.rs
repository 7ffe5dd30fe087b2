use sqlx::PgExecutor;

use super::QueueError;

/// Folds the counts of ended jobs into one row a day, and computes the percentiles of past five minutes. Returns how many rows it
/// wrote. While another process folds, it returns 0 at once.
///
/// # Errors
/// Postgres is away.
pub async fn fold_history(db: impl PgExecutor<'_>) -> Result<i32, QueueError> {
    let folded = sqlx::query_scalar!(r#"select fold_history() as "folded!""#);
    Ok(folded.fetch_one(db).await?)
}
