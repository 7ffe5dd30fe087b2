use chrono::{DateTime, Utc};
use sqlx::{PgPool, types::Json};

use super::{LoadedModel, QueueError};

/// One worker process, as `ops.workers` shows it.
#[derive(Debug, Clone)]
pub struct WorkerView {
    pub worker_id: i64,
    pub name: String,
    pub device: String,
    pub build: String,
    /// Names of the models that it runs; empty for any.
    pub models: Vec<String>,
    pub registered_at: DateTime<Utc>,
    pub lease_until: DateTime<Utc>,
    /// `alive`, `draining`, `lost` or `ended`.
    pub status: String,
    /// Number of jobs that it holds.
    pub running: i64,
    /// Models that it has loaded.
    pub loaded: Json<Vec<LoadedModel>>,
}

/// Workers whose lease was valid within the last hour, newest first; at most 1000.
///
/// # Errors
/// Postgres is away.
pub async fn workers(db: &PgPool) -> Result<Vec<WorkerView>, QueueError> {
    let workers = sqlx::query_as!(
        WorkerView,
        r#"select worker_id as "worker_id!", name as "name!", device as "device!", build as "build!", models as "models!",
                  registered_at as "registered_at!", lease_until as "lease_until!", status as "status!", running as "running!",
                  loaded as "loaded!: Json<Vec<LoadedModel>>"
           from ops.workers where lease_until > now() - interval '1 hour' order by worker_id desc limit 1000"#
    );
    Ok(workers.fetch_all(db).await?)
}
