//! One image and all that is asked of it, in the form that fits.

use bytes::Bytes;
use reqwest::{RequestBuilder, header};
use serde_json::{Map, Value, json};

/// What to predict from.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Bytes),
    /// The service fetches it, if it is set up to.
    Url(String),
}

/// `POST /v1/jobs`, again and again if need be.
#[derive(Debug)]
pub(crate) struct Submission<'a> {
    pub(crate) content: &'a Content,
    /// `model`, `priority`, `metadata.KEY` and parameters of the model, as the raw form has them.
    pub(crate) query: &'a [(String, String)],
    /// The same for all tries at this image: they are one job.
    pub(crate) idempotency_key: &'a str,
    /// Whether the answer may take its time, and then be a finished job.
    pub(crate) wait_seconds: Option<u64>,
    /// Whether a prediction that was made before will not do.
    pub(crate) fresh: bool,
}

impl Submission<'_> {
    pub(crate) fn request(&self, post: RequestBuilder) -> RequestBuilder {
        let mut request = post.header("Idempotency-Key", self.idempotency_key);
        if let Some(seconds) = self.wait_seconds {
            request = request.header("Prefer", format!("wait={seconds}"));
        }
        if self.fresh {
            request = request.header(header::CACHE_CONTROL, "no-cache");
        }
        match self.content {
            // The service looks at the bytes; what is declared does not count.
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
    let mut body = json!({"image": {"url": url}});
    let (mut params, mut metadata) = (Map::new(), Map::new());
    for (name, value) in query {
        match name.as_str() {
            "model" | "run_at" | "deadline" | "retain_for" => {
                body[name] = value.clone().into();
            }
            "priority" | "max_attempts" => body[name] = scalar(value),
            _ => match name.strip_prefix("metadata.") {
                Some(key) => drop(metadata.insert(key.to_owned(), value.clone().into())),
                None => drop(params.insert(name.clone(), scalar(value))),
            },
        }
    }
    body["params"] = params.into();
    body["metadata"] = metadata.into();
    body
}

/// A number or a truth value if it looks like one, as the service reads a query.
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
            ("metadata.listing", "8841"),
        ];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            json_form("https://x/y.jpg", &query),
            json!({"image": {"url": "https://x/y.jpg"}, "model": "lite", "priority": -1,
                   "params": {"top_k": 3}, "metadata": {"listing": "8841"}})
        );
    }
}
