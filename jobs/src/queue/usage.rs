use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgPool;

use super::QueueError;

/// What to add up of `ops.usage`.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Of anyone if `None`.
    pub owner: Option<String>,
    /// First and last day on which the jobs ended, in UTC.
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
    pub by_owner: bool,
    pub by_model: bool,
    pub by_day: bool,
}

/// What finished jobs used; the fields that it is not grouped by are left out.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Day on which the jobs ended, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    pub day: Option<NaiveDate>,
    /// Jobs that ended, however they did.
    pub jobs: i64,
    pub succeeded: i64,
    /// Bytes of their images, each counted once a job.
    pub image_bytes: i64,
    /// Seconds of the device: each job's share of its forward pass.
    pub infer_seconds: f64,
    /// Seconds from claim to end of the last attempts; those of one batch overlap.
    pub attempt_seconds: f64,
}

/// Adds up what jobs used that were made in the last 31 days and not pruned since; at most so many groups.
///
/// # Errors
/// Postgres is away.
pub async fn usage(
    db: &PgPool,
    asked: &UsageQuery,
    groups_max: i64,
) -> Result<Vec<Usage>, QueueError> {
    let rows = sqlx::query_file_as!(
        Usage,
        "src/queue/usage.sql",
        asked.owner,
        asked.from,
        asked.to,
        asked.by_owner,
        asked.by_model,
        asked.by_day,
        groups_max,
    );
    Ok(rows.fetch_all(db).await?)
}
