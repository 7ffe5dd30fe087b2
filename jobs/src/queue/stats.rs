use sqlx::PgExecutor;

use super::QueueError;

/// The queue of one model.
#[derive(Debug, Clone)]
pub struct ModelStats {
    pub model: String,
    /// Jobs that wait for a worker.
    pub queued: i64,
    /// Jobs that a worker holds.
    pub running: i64,
    /// Jobs that are due later, or that back off.
    pub scheduled: i64,
    /// Time since the oldest queued job was due; empty if none is queued.
    pub oldest_age_seconds: Option<f64>,
    /// Jobs created per second, over the last five minutes.
    pub arrived_per_second: f64,
    /// Jobs that workers ended per second, over the last seconds or minutes.
    pub finished_per_second: f64,
    /// Jobs that one worker ends per second while it has jobs of this model; empty if none ended lately.
    pub finished_per_worker_second: Option<f64>,
    /// Time that one worker would need for the queued and running jobs.
    pub work_seconds: Option<f64>,
    /// Workers that run the model and are not draining.
    pub live_workers: i64,
    /// Workers that would finish the backlog in 30 seconds and keep up with new jobs.
    pub desired_workers: i64,
    pub paused: bool,
    /// The reason that the operator gave for the pause.
    pub pause_reason: Option<String>,
}

/// Every model, by name, of `ops.scaling` and `ops.queue`.
///
/// # Errors
/// Postgres is away.
pub async fn stats(db: impl PgExecutor<'_>) -> Result<Vec<ModelStats>, QueueError> {
    let rows = sqlx::query_file_as!(ModelStats, "src/queue/stats.sql");
    Ok(rows.fetch_all(db).await?)
}
