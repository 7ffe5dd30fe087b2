//! One image and what to do with it, as a request.

use bytes::Bytes;
use reqwest::{RequestBuilder, header};
use serde_json::Value;
use wire::{ImageSource, JobRequest};

/// The image.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Bytes),
    /// The service fetches the image, if it is set up to.
    Url(String),
}

/// A `POST /v1/jobs` that may be sent several times.
#[derive(Debug)]
pub(crate) struct Submission<'a> {
    pub(crate) content: &'a Content,
    /// `model`, `priority`, `metadata.KEY` and parameters of the model, as the raw form takes them.
    pub(crate) query: &'a [(String, String)],
    /// One key for all tries: they are one job.
    pub(crate) idempotency_key: &'a str,
    /// How long the service may hold back the answer, to answer with a finished job.
    pub(crate) wait_seconds: Option<u64>,
    /// Whether to make the prediction anew even if there is one.
    pub(crate) no_cache: bool,
}

impl Submission<'_> {
    pub(crate) fn request(&self, post: RequestBuilder) -> RequestBuilder {
        let mut request = post.header("Idempotency-Key", self.idempotency_key);
        if let Some(seconds) = self.wait_seconds {
            request = request.header("Prefer", format!("wait={seconds}"));
        }
        if self.no_cache {
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        match self.content {
            // The service reads the type from the bytes; the declared type does not count.
            Content::Bytes(bytes) => request
                .query(self.query)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(bytes.clone()),
            Content::Url(url) => request.json(&json_form(url, self.query)),
        }
    }
}

/// The query of the raw form as the JSON form.
fn json_form(url: &str, query: &[(String, String)]) -> Value {
    let mut request = JobRequest {
        image: Some(ImageSource {
            url: Some(url.to_owned()),
            ..ImageSource::default()
        }),
        ..JobRequest::default()
    };
    // Fields that the service checks, so that both forms are refused for the same reasons.
    let mut unchecked = Vec::new();
    for (name, value) in query {
        match name.as_str() {
            field if JobRequest::TEXT_IN_QUERY.contains(&field) => {
                unchecked.push((name, value.clone().into()));
            }
            field if JobRequest::NUMBERS_IN_QUERY.contains(&field) => {
                unchecked.push((name, scalar(value)));
            }
            _ => match name.strip_prefix("metadata.") {
                Some(key) => drop(
                    request
                        .metadata
                        .insert(key.to_owned(), value.clone().into()),
                ),
                None => drop(request.params.insert(name.clone(), scalar(value))),
            },
        }
    }
    let mut body = serde_json::to_value(request).unwrap_or_default();
    for (name, value) in unchecked {
        body[name] = value;
    }
    body
}

/// A number or a boolean if the text is one: the service reads a query in this way.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::json_form;
    use serde_json::json;

    #[test]
    fn a_query_and_its_json_form_ask_the_same() {
        let query = [
            ("model", "lite"),
            ("top_k", "3"),
            ("priority", "-1"),
            ("run_at", "tomorrow"),
            ("metadata.listing", "8841"),
        ];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            json_form("https://x/y.jpg", &query),
            json!({"image": {"url": "https://x/y.jpg"}, "model": "lite", "priority": -1, "run_at": "tomorrow",
                   "params": {"top_k": 3}, "metadata": {"listing": "8841"}})
        );
    }
}
