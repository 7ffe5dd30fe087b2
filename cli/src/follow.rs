//! Following a job to its end: by long polls where the service holds answers back, else at the pace it asks for.

use std::time::Duration;

use serde_json::Value;

use crate::service::{CallError, Client, JobAnswer};

/// Pause before the first poll of a service that does not wait; it doubles up to what `Retry-After` asks for.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Follows a job to its terminal state; one that is there already is returned at once. `seen` gets every change.
pub(crate) async fn until_ended(
    client: &Client,
    first: JobAnswer,
    mut seen: impl FnMut(&Value),
) -> Result<Value, CallError> {
    let mut latest = first;
    let mut pause = PAUSE;
    seen(&latest.job);
    while !has_ended(&latest.job) {
        if !latest.waited {
            tokio::time::sleep(pause).await;
            let asked = latest.retry_after.unwrap_or(PAUSE_MAX);
            pause = (pause * 2).min(asked.min(RETRY_AFTER_MAX));
        }
        let id = latest.job["id"].as_str().unwrap_or_default().to_owned();
        if let Some(changed) = client.changed_job(&id, latest.etag.as_deref()).await? {
            seen(&changed.job);
            latest = changed;
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

pub(crate) fn has_failed(job: &Value) -> bool {
    has_ended(job) && job["status"] != "succeeded"
}
