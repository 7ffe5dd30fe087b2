use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::PgPool;

use super::{QueueError, find::JobRow};
use crate::{BatchId, Job, JobId, JobState};

/// Selects jobs of an owner.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub state: Option<JobState>,
    /// Name of the model, any version.
    pub model: Option<String>,
    pub task: Option<String>,
    /// Only jobs whose metadata has all these entries. Values are compared as text: `"8841"` finds the number too.
    pub metadata: Map<String, Value>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// Only jobs of this batch.
    pub batch: Option<BatchId>,
    /// Only older jobs than this one: the last job of the previous page.
    pub before: Option<JobId>,
}

/// Jobs of `owner`, newest first.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: &PgPool,
    owner: &str,
    filter: &JobFilter,
    limit: u16,
) -> Result<Vec<Job>, QueueError> {
    let rows = sqlx::query_file_as!(
        JobRow,
        "src/queue/list.sql",
        owner,
        filter.before.map(JobId::uuid),
        filter.state.map(|state| state.to_string()),
        filter.model,
        filter.task,
        Value::Object(filter.metadata.clone()),
        filter.created_after,
        filter.created_before,
        i64::from(limit),
        filter.batch.map(BatchId::uuid),
    );
    let rows = rows.fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .map(Job::try_from)
        .collect::<Result<_, _>>()?)
}
