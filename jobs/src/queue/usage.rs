use chrono::NaiveDate;
use sqlx::PgExecutor;

use super::QueueError;

/// Selects and groups rows of `ops.usage`.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Any owner if `None`.
    pub owner: Option<String>,
    /// First and last day on which the jobs ended, in UTC.
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
    pub by_owner: bool,
    pub by_model: bool,
    pub by_day: bool,
}

/// Usage of ended jobs. Fields that the query does not group by are left out.
#[derive(Debug, Clone)]
pub struct Usage {
    pub owner: Option<String>,
    pub model: Option<String>,
    /// Day on which the jobs ended, in UTC.
    pub day: Option<NaiveDate>,
    /// Jobs that ended, in any state.
    pub jobs: i64,
    pub succeeded: i64,
    /// Bytes of the jobs' images; an image counts once for each job.
    pub image_bytes: i64,
    /// Device time in seconds: each job's share of its forward pass.
    pub infer_seconds: f64,
    /// Seconds from claim to end of the jobs' last attempts. Attempts of one forward batch overlap.
    pub attempt_seconds: f64,
}

/// Sums the usage of jobs that ended in the last 31 days. Returns at most `groups_max` groups.
///
/// # Errors
/// Postgres is away.
pub async fn usage(
    db: impl PgExecutor<'_>,
    query: &UsageQuery,
    groups_max: i64,
) -> Result<Vec<Usage>, QueueError> {
    let rows = sqlx::query_file_as!(
        Usage,
        "src/queue/usage.sql",
        query.owner,
        query.from,
        query.to,
        query.by_owner,
        query.by_model,
        query.by_day,
        groups_max,
    );
    Ok(rows.fetch_all(db).await?)
}
