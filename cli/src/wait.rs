//! Waiting for a job to end: by long polls where the service holds answers back, else at the pace it asks for.

use std::time::Duration;

use serde_json::Value;

use crate::service::{CallError, Client, JobAnswer};

/// Pause before the first poll of a service that does not wait; it doubles up to what `Retry-After` asks for.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Answers in a row that may be missing: an API process that restarts costs the waiting client nothing.
const MISSING_MAX: u32 = 8;

/// Follows a job to its terminal state; one that is there already is returned at once.
pub(crate) async fn until_ended(client: &Client, first: JobAnswer) -> Result<Value, CallError> {
    let mut latest = first;
    let (mut pause, mut missing) = (PAUSE, 0);
    while !has_ended(&latest.job) {
        if !latest.waited || missing > 0 {
            tokio::time::sleep(pause).await;
            let asked = latest.retry_after.unwrap_or(PAUSE_MAX);
            pause = (pause * 2).min(asked.min(RETRY_AFTER_MAX));
        }
        let id = latest.job["id"].as_str().unwrap_or_default().to_owned();
        match client.changed_job(&id, latest.etag.as_deref()).await {
            Ok(changed) => {
                missing = 0;
                latest = changed.unwrap_or(latest);
            }
            Err(error) if missing < MISSING_MAX && may_pass(&error) => missing += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(latest.job)
}

pub(crate) fn has_ended(job: &Value) -> bool {
    let status = job["status"].as_str();
    matches!(
        status,
        Some("succeeded" | "failed" | "canceled" | "expired")
    )
}

fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Away(_) => true,
        CallError::Refused(refusal) => matches!(refusal.status, 429 | 502 | 503 | 504),
        CallError::Unreadable(_) => false,
    }
}
