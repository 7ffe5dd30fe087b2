use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::PgExecutor;
use wire::{DeliveryStatus, NotADeliveryStatus};

use super::{DeliveryId, EndpointId};
use crate::{JobId, events::Subject};

/// One attempt to send a delivery.
#[derive(Debug, Clone, Deserialize)]
pub struct DeliveryAttempt {
    pub at: DateTime<Utc>,
    /// HTTP status; empty without a response.
    #[serde(default)]
    pub status: Option<u16>,
    /// What went wrong; empty after a success.
    #[serde(default)]
    pub error: Option<String>,
    /// Empty if nothing was sent.
    #[serde(default)]
    pub took_ms: Option<f64>,
}

/// A delivery as its owner sees it.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    pub id: DeliveryId,
    pub endpoint: Option<EndpointId>,
    pub url: String,
    pub event_type: String,
    pub at: DateTime<Utc>,
    pub subject: Subject,
    pub status: DeliveryStatus,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    /// The last fifty attempts, oldest first.
    pub attempts: Vec<DeliveryAttempt>,
}

/// Which deliveries of an owner to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    pub status: Option<DeliveryStatus>,
    pub job: Option<JobId>,
    pub endpoint: Option<EndpointId>,
    /// Only older deliveries than this one: the last delivery of the previous page.
    pub before: Option<DeliveryId>,
}

/// Deliveries of `owner`, newest first.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    db: impl PgExecutor<'_>,
    owner: &str,
    filter: &DeliveryFilter,
    limit: u16,
) -> Result<Vec<DeliveryView>, sqlx::Error> {
    let rows = sqlx::query_file!(
        "src/webhooks/list.sql",
        owner,
        filter.before.map(DeliveryId::uuid),
        filter.status.map(DeliveryStatus::as_str),
        filter.job.map(JobId::uuid),
        filter.endpoint.map(EndpointId::uuid),
        i64::from(limit),
    );
    let rows = rows.fetch_all(db).await?;
    let listed = rows.into_iter().map(|row| {
        let status = row.status.parse();
        let attempts = serde_json::from_value(row.log);
        Ok(DeliveryView {
            id: row.delivery_id.into(),
            endpoint: row.endpoint_id.map(EndpointId::from),
            url: row.url,
            event_type: row.event_type,
            at: row.at,
            subject: Subject::from_columns(row.job_id, row.batch_id)?,
            status: status
                .map_err(|error: NotADeliveryStatus| sqlx::Error::Decode(Box::new(error)))?,
            next_attempt_at: row.next_attempt_at,
            ended_at: row.ended_at,
            attempts: attempts.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        })
    });
    listed.collect()
}
