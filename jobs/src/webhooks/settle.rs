use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Delivery;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeliveryOutcome {
    Delivered,
    /// Again after so long.
    Retry(Duration),
    Failed,
}

/// What came of one attempt.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    pub outcome: DeliveryOutcome,
    pub began_at: DateTime<Utc>,
    pub took: Duration,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// In words, for the owner; empty if it was delivered.
    pub error: Option<String>,
}

/// Writes down what came of an attempt. Answers whether the lease still held: if not, another process is at it.
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
