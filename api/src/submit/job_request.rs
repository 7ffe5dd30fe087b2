//! The request of a job, as JSON or in the query of a raw upload: its checks and its fingerprint.

mod image_source;
mod query;
mod size;

use chrono::{DateTime, Datelike, Utc};
use jobs::Sha256Digest;
use serde_json::{Map, Value, json};
use wire::JobRequest;

pub(crate) use self::{
    image_source::{ImageLocation, image_location},
    query::{RawForm, from_query},
};
use crate::{config::Limits, egress::Egress, http::error::ApiError, job_fields::field_fault};

const METADATA_KEYS_MAX: usize = 50;

/// Whether Postgres cannot calculate with this time: only the years 1970 to 9999 are allowed.
pub(crate) fn is_out_of_range(time: DateTime<Utc>) -> bool {
    !(1970..=9999).contains(&time.year())
}

/// Checks everything that does not need the image, so that an invalid request is refused before its upload is read.
pub(crate) fn check(request: &JobRequest, limits: &Limits) -> Result<(), ApiError> {
    if let Some((pointer, detail)) = field_fault(request) {
        return Err(ApiError::invalid_field(pointer, "invalid", detail));
    }
    size::check(request, limits.job_bytes_max, limits.job_values_max)
}

/// Checks that the key allows the priority. Without the limit one owner's jobs could stay ahead of the jobs of all other owners.
pub(crate) fn check_priority(request: &JobRequest, priority_max: i16) -> Result<(), ApiError> {
    if request.priority <= priority_max {
        return Ok(());
    }
    let detail = format!("must not be above {priority_max}, the `priority_max` of this API key");
    Err(ApiError::invalid_field("/priority", "not_allowed", &detail))
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
    // The fields that a fingerprint always has. It has every other field only if the request has it: a fingerprint in the
    // database may be older than the field.
    let mut asked = json!({
        "model": null, "priority": 0, "run_at": null, "deadline": null, "max_attempts": null,
    });
    let fields = serde_json::to_value(request).expect("a request is JSON");
    if let (Value::Object(asked), Value::Object(fields)) = (&mut asked, fields) {
        asked.extend(fields);
    }
    asked["retain_for"] = json!(request.retain_for.map(|keep| keep.num_seconds()));
    asked["image"] = json!(image);
    Sha256Digest::of(asked.to_string().as_bytes())
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
