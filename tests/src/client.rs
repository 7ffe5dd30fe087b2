//! A small REST client. It returns answers as values and checks the shape of problems.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

/// A client of one API process with one key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(base: impl Into<String>, key: Option<String>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_mins(1))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            http,
            base: base.into(),
            key,
        }
    }

    /// A request with `Cache-Control: no-cache`: a submit always creates a job.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.plain_request(method, path);
        request.header("Cache-Control", "no-cache")
    }

    /// A request without `Cache-Control`: a submit may be answered by an earlier job.
    pub fn plain_request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// `POST /v1/jobs`. `query` begins with a question mark, or is empty.
    pub async fn post_job(
        &self,
        query: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.request(Method::POST, &format!("/v1/jobs{query}"));
        send(request.header("Content-Type", content_type).body(body)).await
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Submits the bytes of an image. Returns the accepted job.
    pub async fn submit(&self, query: &str, image: Vec<u8>) -> Value {
        let answer = self
            .post_job(query, "application/octet-stream", image)
            .await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()
    }

    pub async fn job(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(answer.status, 200, "{id}: {}", answer.text());
        answer.json()
    }

    pub async fn cancel(&self, id: &str) -> Answer {
        send(self.request(Method::POST, &format!("/v1/jobs/{id}/cancel"))).await
    }

    /// Polls until the job has ended, with any outcome.
    pub async fn ended(&self, id: &str) -> Value {
        crate::eventually(
            Duration::from_secs(90),
            &format!("{id} has ended"),
            || async {
                let job = self.job(id).await;
                let ended = ["succeeded", "failed", "canceled", "expired"];
                ended
                    .contains(&job["status"].as_str().unwrap())
                    .then_some(job)
            },
        )
        .await
    }

    /// Submits an image and waits. Panics if the job does not succeed.
    pub async fn predicted(&self, query: &str, image: Vec<u8>) -> Value {
        let id = self.submit(query, image).await["id"].clone();
        let job = self.ended(id.as_str().unwrap()).await;
        assert_eq!(job["status"], "succeeded", "{job:#}");
        job
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: answer.bytes().await.unwrap().to_vec(),
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that the answer is a problem (RFC 9457) with this status and code and all promised fields. Returns the problem.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "want {code}: {}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem:#}");
        assert_eq!(problem["status"], status, "{problem:#}");
        assert_eq!(problem["type"], format!("/problems/{code}"));
        for text in ["title", "detail", "instance", "request_id", "trace_id"] {
            let text = problem[text]
                .as_str()
                .unwrap_or_else(|| panic!("no {text} in {problem:#}"));
            assert!(!text.is_empty());
        }
        assert!(problem["retryable"].is_boolean(), "{problem:#}");
        assert_eq!(self.header("x-request-id"), problem["request_id"].as_str());
        problem
    }

    /// Asserts that the answer is a problem with one error, at this pointer.
    #[track_caller]
    pub fn problem_at(&self, status: u16, code: &str, pointer: &str) {
        let problem = self.problem(status, code);
        let pointers: Vec<_> = problem["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(pointers, [pointer], "{problem:#}");
    }
}
