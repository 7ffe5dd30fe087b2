use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Why a job is in its state.
#[derive(Debug, Clone)]
pub struct Explanation {
    pub job_id: JobId,
    /// As in `job.status`.
    pub status: String,
    pub model: String,
    pub priority: i16,
    /// Queued jobs of the model that go first; counted up to 10,000.
    pub jobs_ahead: i64,
    /// Workers that run the model and are not draining.
    pub live_workers: i64,
    /// Jobs of the model that ended per second, measured over the last seconds or minutes.
    pub finished_per_second: f64,
    /// Time until a worker starts the job, at that rate. Empty if the job runs, has ended, or is blocked.
    pub starts_in_seconds: Option<f64>,
    /// What the job waits for, in words; empty if nothing blocks the job.
    pub blocked_by: Vec<String>,
}

/// Explains a job of `owner`, of any owner if `None`.
///
/// # Errors
/// Postgres is away.
pub async fn explain(
    db: &PgPool,
    job: JobId,
    owner: Option<&str>,
) -> Result<Option<Explanation>, QueueError> {
    let row = sqlx::query_as!(
        Explanation,
        r#"select job_id as "job_id!: JobId", status as "status!", model as "model!", priority as "priority!", jobs_ahead as "jobs_ahead!",
                  live_workers as "live_workers!", finished_per_second as "finished_per_second!", starts_in_seconds, blocked_by as "blocked_by!"
           from explain_job($1, $2)"#,
        job.uuid(),
        owner
    );
    Ok(row.fetch_optional(db).await?)
}
