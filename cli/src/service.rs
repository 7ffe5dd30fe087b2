//! The REST side: one client, its answers and its refusals.

use std::{path::Path, time::Duration};

use clap::Args;
use jobs::Secret;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;

pub(crate) use crate::plain::refusal::Refusal;

/// Longest that the service is asked to hold an answer back; it allows 60.
const WAIT_SECONDS: u64 = 30;
/// Silence of the service that counts as its absence: longer than it may hold an answer back.
const SILENCE_MAX: Duration = Duration::from_secs(WAIT_SECONDS + 30);
/// How often a submit is sent while the service says 429 or 503.
const SUBMIT_TRIES: u32 = 4;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Where the service is and who is calling
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct Service {
    /// Address of the service
    #[arg(long, env = "DARKROOM_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// API key, `dk_…`; better given by the environment than on the command line, which other users can see
    #[arg(long, env = "DARKROOM_API_KEY", hide_env_values = true)]
    api_key: Option<Secret>,
}

#[derive(Debug)]
pub(crate) enum CallError {
    Refused(Refusal),
    /// No answer, or none that can be read.
    Away(String),
    /// A local file cannot be read.
    Unreadable(String),
}

/// A job as the service showed it.
#[derive(Debug)]
pub(crate) struct JobAnswer {
    pub(crate) job: Value,
    pub(crate) etag: Option<String>,
    /// Whether the service held the answer back as it was asked to.
    pub(crate) waited: bool,
    pub(crate) retry_after: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    api_key: Option<Secret>,
}

impl Client {
    pub(crate) fn new(service: Service) -> Result<Self, CallError> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(SILENCE_MAX)
            .build();
        Ok(Self {
            http: http.map_err(|error| away("HTTP client", &error))?,
            url: service.url.trim_end_matches('/').to_owned(),
            api_key: service.api_key,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let sent = request.send().await;
        sent.map_err(|error| away(&self.url, &error.without_url()))
    }

    /// `GET path`, as the service wrote it.
    pub(crate) async fn get(&self, path: &str) -> Result<String, CallError> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let response = self.accepted(response).await?;
        let text = response.text().await;
        text.map_err(|error| away(&self.url, &error.without_url()))
    }

    /// `POST /v1/jobs` with the file as body. With `wait` the answer may take its time, and then be a finished job.
    pub(crate) async fn submit(
        &self,
        file: &Path,
        query: &[(String, String)],
        wait: bool,
    ) -> Result<JobAnswer, CallError> {
        // One key for all tries at this file: a service that keeps such keys makes one job of them.
        let key = uuid::Uuid::now_v7().to_string();
        for tries_left in (0..SUBMIT_TRIES).rev() {
            let unreadable =
                |error| CallError::Unreadable(format!("cannot read {}: {error}", file.display()));
            let body = tokio::fs::File::open(file).await.map_err(unreadable)?;
            let facts = body.metadata().await.map_err(unreadable)?;
            let mut request = self
                .request(Method::POST, "/v1/jobs")
                .query(query)
                // The service looks at the bytes; what is declared does not count.
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header("Idempotency-Key", &key);
            if facts.is_file() {
                request = request.header(header::CONTENT_LENGTH, facts.len());
            }
            if wait {
                request = request.header("Prefer", format!("wait={WAIT_SECONDS}"));
            }
            let response = self.send(request.body(body)).await?;
            let busy = matches!(
                response.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            match retry_after(&response) {
                Some(pause) if busy && tries_left > 0 && facts.is_file() => {
                    tokio::time::sleep(pause.min(RETRY_AFTER_MAX)).await;
                }
                _ => return self.job(self.accepted(response).await?).await,
            }
        }
        unreachable!("the last try returns")
    }

    /// Waits until a job is no longer what `etag` says, or for a while; `None` if nothing changed.
    pub(crate) async fn changed_job(
        &self,
        id: &str,
        etag: Option<&str>,
    ) -> Result<Option<JobAnswer>, CallError> {
        let mut request = self
            .request(Method::GET, &format!("/v1/jobs/{id}"))
            .header("Prefer", format!("wait={WAIT_SECONDS}"));
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = self.send(request).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        self.job(self.accepted(response).await?).await.map(Some)
    }

    async fn job(&self, response: Response) -> Result<JobAnswer, CallError> {
        let etag = response.headers().get(header::ETAG);
        let etag = etag.and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
        let waited = response.headers().contains_key("preference-applied");
        let retry_after = retry_after(&response);
        let job = response.json::<Value>().await;
        Ok(JobAnswer {
            job: job.map_err(|error| away(&self.url, &error.without_url()))?,
            etag,
            waited,
            retry_after,
        })
    }

    /// Turns everything but 2xx into a [`Refusal`].
    async fn accepted(&self, response: Response) -> Result<Response, CallError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        Err(CallError::Refused(Refusal::new(
            &self.url,
            status.as_u16(),
            &body,
        )))
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn away(what: &str, error: &(dyn std::error::Error + 'static)) -> CallError {
    CallError::Away(format!("{what}: {}", crate::failure::causes(error)))
}
