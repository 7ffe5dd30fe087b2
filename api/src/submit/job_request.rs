//! The request of a job, as JSON or in the query of a raw upload: its checks, and the job to queue.

mod image_source;
mod query;
mod size;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use jobs::{JobId, Sha256Digest, images::Image, models::Resolved, queue::NewJob};
use serde_json::{Map, Value, json};
use wire::JobRequest;

pub(crate) use self::{
    image_source::{ImageLocation, image_location},
    query::from_query,
};
use crate::{config::Limits, egress::Egress, http::error::ApiError};

const PRIORITY_RANGE: std::ops::RangeInclusive<i16> = -100..=100;
const ATTEMPTS_MAX_RANGE: std::ops::RangeInclusive<i16> = 1..=20;
const METADATA_KEYS_MAX: usize = 50;
const RETAIN_DAYS_MAX: f64 = 3650.0;

/// Whether Postgres cannot calculate with this time: only the years 1970 to 9999 are allowed.
pub(crate) fn is_out_of_range(time: DateTime<Utc>) -> bool {
    !(1970..=9999).contains(&time.year())
}

/// Checks everything that does not need the image, so that an invalid request is refused before its upload is read.
pub(crate) fn check(request: &JobRequest, limits: &Limits) -> Result<(), ApiError> {
    let fault = if !PRIORITY_RANGE.contains(&request.priority) {
        Some(("/priority", "must lie in -100..=100"))
    } else if request
        .max_attempts
        .is_some_and(|max| !ATTEMPTS_MAX_RANGE.contains(&max))
    {
        Some(("/max_attempts", "must lie in 1..=20"))
    } else if request.run_at.is_some_and(is_out_of_range) {
        Some(("/run_at", "must lie in the years 1970 to 9999"))
    } else if request.deadline.is_some_and(is_out_of_range) {
        Some(("/deadline", "must lie in the years 1970 to 9999"))
    } else if let Some(detail) = metadata_fault(&request.metadata) {
        Some(("/metadata", detail))
    } else if request.retain_for.is_some_and(|keep| {
        keep <= TimeDelta::zero() || keep.num_seconds() as f64 > RETAIN_DAYS_MAX * 86_400.0
    }) {
        Some(("/retain_for", "must lie between a second and ten years"))
    } else {
        None
    };
    if let Some((pointer, detail)) = fault {
        return Err(ApiError::invalid_field(pointer, "invalid", detail));
    }
    size::check(request, limits.job_bytes_max)
}

/// Checks that the deadline has not passed. Not part of [`check`]: a request with an `Idempotency-Key` may be
/// repeated after its deadline.
pub(crate) fn check_deadline(request: &JobRequest) -> Result<(), ApiError> {
    if request
        .deadline
        .is_some_and(|deadline| deadline <= Utc::now())
    {
        return Err(ApiError::invalid_field(
            "/deadline",
            "invalid",
            "has passed",
        ));
    }
    Ok(())
}

/// Checks the webhook URL.
pub(crate) fn check_webhook(request: &mut JobRequest, egress: &Egress) -> Result<(), ApiError> {
    let Some(webhook) = &mut request.webhook else {
        return Ok(());
    };
    let url = egress.check(&webhook.url);
    let url = url.map_err(|refused| {
        ApiError::invalid_field("/webhook/url", "not_allowed", &refused.to_string())
    })?;
    // The parsed URL is stored, so that every later parser reads the same host.
    webhook.url = url.into();
    Ok(())
}

/// A digest of the request and its image: a repetition has the same one.
pub(crate) fn fingerprint(request: &JobRequest, image: Sha256Digest) -> Sha256Digest {
    let mut asked = json!({
        "model": request.model, "params": request.params, "priority": request.priority, "metadata": request.metadata,
        "run_at": request.run_at, "deadline": request.deadline, "max_attempts": request.max_attempts,
        "retain_for": request.retain_for.map(|keep| keep.num_seconds()), "image": image,
    });
    // Only if there is one: fingerprints in the database are older than webhooks.
    if let Some(webhook) = &request.webhook {
        asked["webhook"] = json!(webhook);
    }
    Sha256Digest::of(asked.to_string().as_bytes())
}

/// The job to queue.
pub(crate) fn new_job(
    request: JobRequest,
    owner: &str,
    model: Resolved,
    params: Map<String, Value>,
    image: Image,
    trace_parent: String,
    limits: &Limits,
) -> NewJob {
    NewJob {
        id: JobId::now(),
        owner: owner.to_owned(),
        model,
        image,
        params,
        metadata: request.metadata,
        priority: request.priority,
        run_at: request.run_at,
        deadline: request.deadline,
        retain_seconds: request
            .retain_for
            .map_or(limits.retain_days * 86_400.0, |keep| {
                keep.num_seconds() as f64
            }),
        attempt_timeout_seconds: limits.attempt_timeout_seconds,
        attempts_max: request.max_attempts.unwrap_or(limits.attempts_max),
        interruptions_max: limits.interruptions_max,
        trace_parent: Some(trace_parent),
        idempotency: None,
        member: None,
        webhook_url: request.webhook.map(|webhook| webhook.url),
    }
}

/// What is wrong with the metadata; `None` if nothing is.
pub(crate) fn metadata_fault(metadata: &Map<String, Value>) -> Option<&'static str> {
    if metadata.len() > METADATA_KEYS_MAX {
        return Some("may have up to 50 keys");
    }
    let mut fields = metadata.iter();
    let nul = fields.any(|(key, value)| key.contains('\0') || has_nul(value));
    nul.then_some("must not contain NUL")
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use wire::JobRequest;

    use crate::http::json::from_json;

    #[test]
    fn a_fault_in_the_json_says_where_it_is() {
        let code = |body: &str| {
            from_json::<JobRequest>(body.as_bytes())
                .expect_err("refused")
                .to_string()
        };
        assert!(code("{").starts_with("invalid_request"));
        assert!(code("{} {}").starts_with("invalid_request"));
        assert!(code(r#"{"modle": "lite"}"#).starts_with("invalid_params"));
        assert!(code(r#"{"priority": "high"}"#).starts_with("invalid_params"));
        let deep = format!(r#"{{"metadata": {{"a": {}}}}}"#, "[".repeat(1000));
        assert!(code(&deep).starts_with("invalid_request"));
    }
}
