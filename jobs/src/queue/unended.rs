use sqlx::PgPool;

use super::QueueError;

/// Counts the jobs of an owner that have not ended: scheduled, queued and running ones.
///
/// # Errors
/// Postgres is away.
pub async fn unended(db: &PgPool, owner: &str) -> Result<i64, QueueError> {
    // Waiting jobs by the index on (owner, job_id) alone: a million take some 100 ms. Running jobs by live_jobs_running.
    let count = sqlx::query_scalar!(
        r#"select (select count(*) from live_jobs where owner = $1 and state <> 'running')
                + (select count(*) from live_jobs where owner = $1 and state = 'running') as "count!""#,
        owner
    );
    Ok(count.fetch_one(db).await?)
}
