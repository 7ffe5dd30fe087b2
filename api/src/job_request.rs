//! What a client may ask of a job: the JSON form, and the same in the query of a raw upload.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use jobs::{JobId, ProblemCode, Sha256Digest, images::Image, models::Resolved, queue::NewJob};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{config::Limits, error::ApiError, outside::Outside};

/// Levels beside each other; higher goes first.
const PRIORITY_RANGE: std::ops::RangeInclusive<i16> = -100..=100;
const ATTEMPTS_MAX_RANGE: std::ops::RangeInclusive<i16> = 1..=20;
const METADATA_KEYS_MAX: usize = 50;
const RETAIN_DAYS_MAX: f64 = 3650.0;

/// A job as JSON. Everything may be left out but, in the JSON form, the image.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobRequest {
    /// `name`, `name@alias`, `name:version` or `name@sha256:…`; the default model if left out.
    pub model: Option<String>,
    pub image: Option<ImageSource>,
    /// The model's own parameters, see `GET /v1/models/{name}`.
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
    /// From -100 to 100; higher goes first.
    pub priority: i16,
    /// Yours: up to 50 keys; `GET /v1/jobs?metadata.KEY=…` finds them again.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Not before this time.
    pub run_at: Option<DateTime<Utc>>,
    /// Of no use after this time.
    pub deadline: Option<DateTime<Utc>>,
    /// From 1 to 20.
    pub max_attempts: Option<i16>,
    /// How long to keep the finished job: `P7D`, `PT12H`.
    #[serde(deserialize_with = "duration")]
    #[schema(value_type = Option<String>, example = "P7D")]
    pub retain_for: Option<TimeDelta>,
    /// Where the news of this job's end go, besides your endpoints.
    pub webhook: Option<WebhookRequest>,
}

/// Who is told.
#[derive(Debug, Deserialize, Serialize, ToSchema)] // `Serialize`: for the defaults in the OpenAPI document
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    /// `https://…`, at a public address; messages are signed with the secret of `GET /v1/webhook_secret`.
    pub url: String,
}

/// Where the image is; exactly one of them.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)] // `Serialize`: for the defaults in the OpenAPI document
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSource {
    /// An image that was uploaded before, by its digest.
    #[schema(value_type = Option<String>)]
    pub sha256: Option<Sha256Digest>,
    /// Fetched at submit; off unless the service allows it.
    pub url: Option<String>,
    /// The bytes in base64.
    pub data: Option<String>,
}

/// The one way in which an image was given.
#[derive(Debug)]
pub(crate) enum Source {
    Stored(Sha256Digest),
    Url(String),
    Inline(Bytes),
}

impl ImageSource {
    pub fn pick(self) -> Result<Source, ApiError> {
        match (self.sha256, self.url, self.data) {
            (Some(sha256), None, None) => Ok(Source::Stored(sha256)),
            (None, Some(url), None) => Ok(Source::Url(url)),
            (None, None, Some(data)) => STANDARD
                .decode(data)
                .map(|bytes| Source::Inline(bytes.into()))
                .map_err(|_| {
                    invalid(
                        "/image/data",
                        "invalid",
                        "must be base64 with the standard alphabet",
                    )
                }),
            _ => Err(invalid(
                "/image",
                "invalid",
                "give exactly one of sha256, url and data",
            )),
        }
    }
}

pub(crate) fn invalid(pointer: &str, code: &str, detail: &str) -> ApiError {
    ApiError::new(
        ProblemCode::InvalidParams,
        "the request has a field that is not acceptable",
    )
    .with_error(pointer, code, detail)
}

/// Reads JSON; a fault says where it is.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json);
    let request = request.map_err(|error| json_fault(&error))?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(request)
}

/// What is wrong with a JSON body, and where.
pub(crate) fn json_fault(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    match error.inner().classify() {
        serde_json::error::Category::Data => invalid(
            &pointer(error.path()),
            "invalid",
            &error.inner().to_string(),
        ),
        _ => not_json(error.inner()),
    }
}

pub(crate) fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        ProblemCode::InvalidRequest,
        format!("the body is not JSON: {error}"),
    )
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment.to_string() {
            name if name == "?" => {}
            name => {
                pointer.push('/');
                pointer.push_str(name.trim_start_matches('[').trim_end_matches(']'));
            }
        }
    }
    pointer
}

/// Reads the query of a raw upload: the fields of a job by their names, `metadata.KEY`, and anything else as a parameter
/// of the model.
pub(crate) fn from_query(query: &str) -> Result<JobRequest, ApiError> {
    let mut fields = Map::new();
    let (mut params, mut metadata) = (Map::new(), Map::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let (name, value) = (name.into_owned(), value.into_owned());
        let taken = match name.as_str() {
            "model" | "run_at" | "deadline" | "retain_for" => fields.insert(name, value.into()),
            "webhook" => fields.insert(name, json!({ "url": value })),
            "priority" | "max_attempts" => fields.insert(name, scalar(value)),
            _ => match name.strip_prefix("metadata.") {
                Some(key) => metadata.insert(key.to_owned(), value.into()),
                None => params.insert(name, scalar(value)),
            },
        };
        if taken.is_some() {
            return Err(invalid(
                "",
                "repeated",
                "each query parameter may be given once",
            ));
        }
    }
    fields.insert("params".into(), params.into());
    fields.insert("metadata".into(), metadata.into());
    from_fields(fields)
}

/// Reads the fields of a JSON object; a fault says where it is.
pub(crate) fn from_fields(fields: Map<String, Value>) -> Result<JobRequest, ApiError> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        invalid(
            &pointer(error.path()),
            "invalid",
            &error.inner().to_string(),
        )
    })
}

/// Times that computers can write, but the database cannot reckon with.
pub(crate) fn is_out_of_reach(time: DateTime<Utc>) -> bool {
    !(1970..=9999).contains(&time.year())
}

/// `5` is a number and `true` a boolean; everything else is text.
fn scalar(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text),
    }
}

/// The days-and-time part of ISO 8601: `P7D`, `PT12H`, `P1DT30M`, `P2W`.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TimeDelta>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)? else {
        return Ok(None);
    };
    parse_duration(&text).map(Some).ok_or_else(|| {
        serde::de::Error::custom(
            "must be an ISO 8601 duration of weeks, days, hours, minutes, seconds: P7D",
        )
    })
}

fn parse_duration(text: &str) -> Option<TimeDelta> {
    let (mut seconds, mut in_time, mut digits, mut parts) = (0_i64, false, String::new(), 0);
    for letter in text.strip_prefix('P')?.chars() {
        let unit = match (letter, in_time) {
            ('0'..='9', _) => {
                digits.push(letter);
                continue;
            }
            ('T', false) if digits.is_empty() => {
                in_time = true;
                continue;
            }
            ('W', false) => 604_800,
            ('D', false) => 86_400,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(
            std::mem::take(&mut digits)
                .parse::<i64>()
                .ok()?
                .checked_mul(unit)?,
        )?;
        parts += 1;
    }
    (digits.is_empty() && parts > 0)
        .then(|| TimeDelta::try_seconds(seconds))
        .flatten()
}

impl JobRequest {
    /// Checks everything that does not need the image, so that a wrong request is refused before its upload is read.
    pub fn check(&self) -> Result<(), ApiError> {
        let now = Utc::now();
        let fault = if !PRIORITY_RANGE.contains(&self.priority) {
            Some(("/priority", "must lie in -100..=100"))
        } else if self
            .max_attempts
            .is_some_and(|max| !ATTEMPTS_MAX_RANGE.contains(&max))
        {
            Some(("/max_attempts", "must lie in 1..=20"))
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            Some(("/deadline", "has passed"))
        } else if self.run_at.is_some_and(is_out_of_reach) {
            Some(("/run_at", "must lie in the years 1970 to 9999"))
        } else if self.deadline.is_some_and(is_out_of_reach) {
            Some(("/deadline", "must lie in the years 1970 to 9999"))
        } else if let Some(detail) = metadata_fault(&self.metadata) {
            Some(("/metadata", detail))
        } else if self.retain_for.is_some_and(|keep| {
            keep <= TimeDelta::zero() || keep.num_seconds() as f64 > RETAIN_DAYS_MAX * 86_400.0
        }) {
            Some(("/retain_for", "must lie between a second and ten years"))
        } else {
            None
        };
        fault.map_or(Ok(()), |(pointer, detail)| {
            Err(invalid(pointer, "invalid", detail))
        })
    }

    /// Whether the news may be sent where the client wants them.
    pub fn check_webhook(&mut self, outside: &Outside) -> Result<(), ApiError> {
        let Some(webhook) = &mut self.webhook else {
            return Ok(());
        };
        let url = outside.check(&webhook.url);
        let url =
            url.map_err(|refused| invalid("/webhook/url", "not_allowed", &refused.to_string()))?;
        // As it is understood, so that every reader understands the same.
        webhook.url = url.into();
        Ok(())
    }

    /// Names everything that was asked, over an image: the same request again has the same.
    pub fn fingerprint(&self, image: Sha256Digest) -> Sha256Digest {
        let mut asked = json!({
            "model": self.model, "params": self.params, "priority": self.priority, "metadata": self.metadata,
            "run_at": self.run_at, "deadline": self.deadline, "max_attempts": self.max_attempts,
            "retain_for": self.retain_for.map(|keep| keep.num_seconds()), "image": image,
        });
        // Only where there is one: the names of requests without stay what they were before there were webhooks.
        if let Some(webhook) = &self.webhook {
            asked["webhook"] = json!(webhook);
        }
        Sha256Digest::of(asked.to_string().as_bytes())
    }

    /// The job that is queued.
    pub fn into_new_job(
        self,
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
            metadata: self.metadata,
            priority: self.priority,
            run_at: self.run_at,
            deadline: self.deadline,
            retain_seconds: self
                .retain_for
                .map_or(limits.retain_days * 86_400.0, |keep| {
                    keep.num_seconds() as f64
                }),
            attempt_timeout_seconds: limits.attempt_timeout_seconds,
            attempts_max: self.max_attempts.unwrap_or(limits.attempts_max),
            interruptions_max: limits.interruptions_max,
            trace_parent: Some(trace_parent),
            idempotency: None,
            member: None,
            webhook_url: self.webhook.map(|webhook| webhook.url),
        }
    }
}

/// What is wrong with metadata, if something is.
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
    use super::{JobRequest, from_json, from_query, parse_duration};

    #[test]
    fn durations_read_as_iso_8601() {
        let seconds = |text| parse_duration(text).map(|delta| delta.num_seconds());
        assert_eq!(seconds("P7D"), Some(604_800));
        assert_eq!(seconds("P1DT30M"), Some(88_200));
        assert_eq!(seconds("P2W"), Some(1_209_600));
        for bad in [
            "",
            "P",
            "PT",
            "7D",
            "P7",
            "P1H",
            "PT1D",
            "P-1D",
            "P99999999999999999999D",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_is_the_same_job_as_its_json() {
        let job = from_query("model=lite&top_k=5&priority=2&metadata.listing=8841&note=a%20b")
            .expect("fits");
        assert_eq!((job.model.as_deref(), job.priority), (Some("lite"), 2));
        assert_eq!(job.params["top_k"], 5);
        assert_eq!(job.params["note"], "a b");
        assert_eq!(job.metadata["listing"], "8841");
        assert!(from_query("priority=high").is_err());
        assert!(from_query("top_k=1&top_k=2").is_err());
    }

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
