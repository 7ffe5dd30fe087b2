//! Waiting for a job to end: by long polls where the service holds answers back, else at the pace it asks for.

use std::time::Duration;

use serde_json::Value;

use crate::service::{CallError, Client, JobAnswer};

/// Pace of polls when the service neither waits nor says how long to.
const PACE: Duration = Duration::from_millis(500);
const PACE_MAX: Duration = Duration::from_secs(5);
/// Answers in a row that may be missing: an API process that restarts costs the waiting client nothing.
const MISSING_MAX: u32 = 8;

/// Follows a job to its terminal state; one that is there already is returned at once.
pub(crate) async fn until_ended(client: &Client, first: JobAnswer) -> Result<Value, CallError> {
    let mut latest = first;
    let mut missing = 0;
    while !has_ended(&latest.job) {
        let id = latest.job["id"].as_str().unwrap_or_default().to_owned();
        match client.changed_job(&id, latest.etag.as_deref()).await {
            Ok(Some(answer)) => {
                missing = 0;
                let rest = !answer.waited && !has_ended(&answer.job);
                latest = answer;
                if rest {
                    tokio::time::sleep(latest.retry_after.unwrap_or(PACE).min(PACE_MAX)).await;
                }
            }
            // 304 comes after a wait, unless the service does not wait: then the pace is ours.
            Ok(None) => {
                missing = 0;
                if !latest.waited {
                    tokio::time::sleep(PACE).await;
                }
            }
            Err(error) if missing < MISSING_MAX && may_pass(&error) => {
                missing += 1;
                tokio::time::sleep(PACE * missing).await;
            }
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
