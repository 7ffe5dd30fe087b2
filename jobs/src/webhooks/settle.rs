use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Delivery;

/// The next state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeliveryOutcome {
    Delivered,
    /// The next attempt follows after this time.
    Retry(Duration),
    Failed,
}

/// The result of one attempt.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    pub outcome: DeliveryOutcome,
    pub began_at: DateTime<Utc>,
    pub took: Duration,
    /// HTTP status; `None` without a response.
    pub status: Option<u16>,
    /// What went wrong, in words for the owner; `None` after a success.
    pub error: Option<String>,
}

/// Stores the result of an attempt. `false`: the lease is lost, and another process may send the delivery.
///
/// # Errors
/// Postgres is away.
pub async fn settle(
    db: &PgPool,
    delivery: &Delivery,
    settled: &AttemptResult,
) -> Result<bool, sqlx::Error> {
    let (status, after) = match settled.outcome {
        DeliveryOutcome::Delivered => ("delivered", Duration::ZERO),
        DeliveryOutcome::Retry(after) => ("pending", after),
        DeliveryOutcome::Failed => ("failed", Duration::ZERO),
    };
    let done = sqlx::query_file!(
        "src/webhooks/settle.sql",
        delivery.id.uuid(),
        delivery.lease_no,
        status,
        after.as_secs_f64(),
        settled.began_at,
        settled.status.map(i32::from),
        settled.error,
        settled.took.as_secs_f64() * 1e3,
    );
    Ok(done.execute(db).await?.rows_affected() == 1)
}
