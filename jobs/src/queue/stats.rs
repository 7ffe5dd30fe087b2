use serde::Serialize;
use sqlx::PgPool;

use super::QueueError;

/// How one model's queue stands.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ModelStats {
    pub model: String,
    /// Jobs that wait for a worker.
    pub queued: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that are due later, or back off.
    pub scheduled: i64,
    /// How long the longest-waiting queued job has been due; empty if none waits.
    pub oldest_age_seconds: Option<f64>,
    /// Jobs made in a second, over the last five minutes.
    pub arrived_per_second: f64,
    /// Jobs that workers ended in a second, by the last seconds or minutes.
    pub finished_per_second: f64,
    /// What one worker ends in a second while it has jobs of this model; empty if none ended lately.
    pub finished_per_worker_second: Option<f64>,
    /// How long one worker would take for what is queued and running.
    pub work_seconds: Option<f64>,
    /// Workers that run the model and are not leaving.
    pub live_workers: i64,
    /// Workers that would end the backlog in 30 seconds and keep up with the arrivals.
    pub desired_workers: i64,
    pub paused: bool,
    /// As whoever paused it said.
    pub pause_reason: Option<String>,
}

/// Every model, by name, of `ops.scaling` and `ops.queue`.
///
/// # Errors
/// Postgres is away.
pub async fn stats(db: &PgPool) -> Result<Vec<ModelStats>, QueueError> {
    let rows = sqlx::query_file_as!(ModelStats, "src/queue/stats.sql");
    Ok(rows.fetch_all(db).await?)
}
