use serde::Serialize;
use sqlx::PgPool;

use super::QueueError;
use crate::JobId;

/// Why a job is where it is.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// As in `job.status`.
    pub status: String,
    pub model: String,
    pub priority: i16,
    /// Queued jobs of its model that go first; counted up to 10,000.
    pub jobs_ahead: i64,
    /// Workers that run its model and are not leaving.
    pub live_workers: i64,
    /// Jobs of its model that ended in a second, by the last seconds or minutes.
    pub finished_per_second: f64,
    /// When a worker will begin, at that rate; empty where nothing can be said: it runs, has ended, or is blocked.
    pub starts_in_seconds: Option<f64>,
    /// What it waits for, in words; empty when nothing is in its way.
    pub blocked_by: Vec<String>,
}

/// Explains a job of `owner`, of anyone if `None`.
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
