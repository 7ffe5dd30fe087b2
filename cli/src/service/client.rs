use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use backon::Retryable;
use bytes::Bytes;
use jobs::Secret;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;
use wire::{Batch, BatchResult, Job};

use super::{
    CallError, Refusal, Service, Submission,
    retry::{Repeat, may_retry, pause, pauses},
};
use crate::{failure::Failure, terminal};

/// How long the service may hold back an answer; it allows up to 60 s.
const WAIT_SECONDS: u64 = 30;
pub(super) const USER_AGENT: &str = concat!("darkroom/", env!("CARGO_PKG_VERSION"));
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The service counts as away after this silence: longer than it may hold back an answer.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(WAIT_SECONDS + 30);
/// How long the service keeps a stream of results open.
const STREAM_SECONDS: u64 = 60;

/// An answer that arrived whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

/// A job as the service showed it.
#[derive(Debug)]
pub(crate) struct JobAnswer {
    pub(crate) job: Job,
    /// The job with all fields, also those that this version does not know: for `--json`.
    pub(crate) json: Value,
    pub(crate) etag: Option<String>,
    /// Whether the service held back the answer as it was asked to.
    pub(crate) has_waited: bool,
    pub(crate) retry_after: Option<Duration>,
}

/// Speaks to one service, and retries where that is safe.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    api_key: Option<Secret>,
    patience: Duration,
    has_told: AtomicBool,
}

impl Client {
    pub(crate) fn new(service: Service) -> Result<Self, CallError> {
        Self::with_silence_max(service, SILENCE_MAX)
    }

    /// A client of calls that the service may take longer to answer.
    pub(crate) fn with_silence_max(
        service: Service,
        silence_max: Duration,
    ) -> Result<Self, CallError> {
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_MAX)
            .read_timeout(silence_max)
            .build();
        Ok(Self {
            http: http.map_err(|error| away("HTTP client", &error))?,
            url: service.url.trim_end_matches('/').to_owned(),
            api_key: service.api_key,
            patience: service.patience,
            has_told: AtomicBool::new(false),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// `GET path`: the text that the service wrote.
    pub(crate) async fn get(&self, path: &str) -> Result<String, CallError> {
        self.send_idempotent(Method::GET, path).await
    }

    /// `GET path`, read as JSON.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.json(&self.get(path).await?)
    }

    /// Sends a request without a body that may be repeated.
    pub(crate) async fn send_idempotent(
        &self,
        method: Method,
        path: &str,
    ) -> Result<String, CallError> {
        let build = || self.request(method.clone(), path);
        Ok(self.call(Repeat::IsHarmless, build).await?.text)
    }

    /// `POST path`: a request that must not be repeated once it may have arrived.
    pub(crate) async fn post_once(&self, path: &str) -> Result<String, CallError> {
        let build = || self.request(Method::POST, path);
        Ok(self.call(Repeat::HasEffects, build).await?.text)
    }

    /// [`Self::post_once`] with a body.
    pub(crate) async fn post_json_once(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<String, CallError> {
        let build = || self.request(Method::POST, path).json(body);
        Ok(self.call(Repeat::HasEffects, build).await?.text)
    }

    /// `POST path` with a body, where two requests have the effect of one. Reads the answer as JSON.
    pub(crate) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let build = || self.request(Method::POST, path).json(body);
        self.json(&self.call(Repeat::IsHarmless, build).await?.text)
    }

    /// `PUT path`: two requests have the effect of one.
    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<String, CallError> {
        let build = || self.request(Method::PUT, path).json(body);
        Ok(self.call(Repeat::IsHarmless, build).await?.text)
    }

    /// Submits one image: one job, however many tries it takes.
    pub(crate) async fn submit(&self, submission: &Submission<'_>) -> Result<JobAnswer, CallError> {
        let build = || submission.request(self.request(Method::POST, "/v1/jobs"));
        self.job(&self.call(Repeat::IsHarmless, build).await?)
    }

    /// The job as it is now.
    pub(crate) async fn job_now(&self, id: &str) -> Result<JobAnswer, CallError> {
        let build = || self.request(Method::GET, &format!("/v1/jobs/{id}"));
        self.job(&self.call(Repeat::IsHarmless, build).await?)
    }

    /// Waits up to 30 s until the job differs from `etag`; `None` if nothing changed.
    pub(crate) async fn changed_job(
        &self,
        id: &str,
        etag: Option<&str>,
    ) -> Result<Option<JobAnswer>, CallError> {
        let build = || {
            let request = self
                .request(Method::GET, &format!("/v1/jobs/{id}"))
                .header("Prefer", format!("wait={WAIT_SECONDS}"));
            match etag {
                Some(etag) => request.header(header::IF_NONE_MATCH, etag),
                None => request,
            }
        };
        let answer = self.call(Repeat::IsHarmless, build).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        self.job(&answer).map(Some)
    }

    /// Submits the lines of a batch: under one key they are one batch, however many tries it takes.
    pub(crate) async fn submit_batch(&self, lines: Bytes, key: &str) -> Result<String, CallError> {
        let build = || {
            self.request(Method::POST, "/v1/batches")
                .header(header::CONTENT_TYPE, "application/x-ndjson")
                .header("Idempotency-Key", key)
                .body(lines.clone())
        };
        Ok(self.call(Repeat::IsHarmless, build).await?.text)
    }

    /// Prints the results of a batch as they arrive; with `wait` until the batch has ended, through broken connections.
    pub(crate) async fn print_batch_results(&self, id: &str, wait: bool) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let batch: Batch = self.get_json(&format!("/v1/batches/{id}")).await?;
            let is_over = batch.status.is_terminal();
            let is_whole = self.print_results_after(id, &mut after, wait).await?;
            if is_whole && (is_over || !wait) {
                return Ok(());
            }
        }
    }

    /// Prints one stream of results; `false` if it broke off. `after` is the last line that was printed.
    async fn print_results_after(
        &self,
        id: &str,
        after: &mut i32,
        wait: bool,
    ) -> Result<bool, Failure> {
        let path = format!("/v1/batches/{id}/results?after={after}");
        let build = || {
            let request = self.request(Method::GET, &path);
            if wait {
                request.header("Prefer", format!("wait={STREAM_SECONDS}"))
            } else {
                request
            }
        };
        let opened = self.with_retries(Repeat::IsHarmless, || self.send(build()));
        let mut response = opened.await?;
        let mut unread = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => unread.extend_from_slice(&chunk),
                Ok(None) => return Ok(unread.is_empty()),
                Err(_) => return Ok(false),
            }
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line[..end]);
                let result: BatchResult = terminal::read_json(&text)?;
                terminal::json(&text)?;
                *after = result.line;
            }
        }
    }

    fn job(&self, answer: &Answer) -> Result<JobAnswer, CallError> {
        let json: Value = self.json(&answer.text)?;
        let job = Job::deserialize(&json).map_err(|error| self.unreadable(&error))?;
        let etag = answer.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
        Ok(JobAnswer {
            job,
            json,
            etag,
            has_waited: answer.headers.contains_key("preference-applied"),
            retry_after: retry_after(&answer.headers),
        })
    }

    /// Sends a request until an answer arrives whole, the service refuses the request, or patience ends.
    async fn call(
        &self,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, CallError> {
        let attempt = || async {
            let response = self.send(build()).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let text = response.text().await;
            Ok(Answer {
                status,
                headers,
                text: text.map_err(|error| away(&self.url, &error.without_url()))?,
            })
        };
        self.with_retries(repeat, attempt).await
    }

    async fn with_retries<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        repeat: Repeat,
        attempt: impl FnMut() -> F,
    ) -> Result<T, CallError> {
        let until = Instant::now() + self.patience;
        attempt
            .retry(pauses())
            .when(|error| may_retry(error, repeat))
            .adjust(|error, own| pause(error, own?, until))
            .notify(|error, _| self.tell(error))
            .await
    }

    /// Says once that the command retries, and does not hang.
    fn tell(&self, error: &CallError) {
        let why = match error {
            CallError::Away { what, .. } => what.clone(),
            CallError::Refused(refusal) => format!("the service is busy ({})", refusal.status),
            CallError::Unreadable(_) => return,
        };
        if !self.has_told.swap(true, Relaxed) {
            let patience = humantime::format_duration(self.patience);
            terminal::note(format!(
                "note: {why}; retrying for up to {patience} (--patience)"
            ));
        }
    }

    /// Turns everything but 2xx and 304 into a [`Refusal`].
    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let sent = request.send().await;
        let response = sent.map_err(|error| away(&self.url, &error.without_url()))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let pause = retry_after(response.headers());
        let body = response.text().await.unwrap_or_default();
        let refusal = Refusal::new(&self.url, status.as_u16(), pause, &body);
        Err(CallError::Refused(refusal))
    }

    fn json<T: DeserializeOwned>(&self, text: &str) -> Result<T, CallError> {
        serde_json::from_str(text).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> CallError {
        CallError::Away {
            what: format!("cannot read the answer of {}: {error}", self.url),
            may_have_arrived: true,
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

pub(super) fn away(what: &str, error: &reqwest::Error) -> CallError {
    CallError::Away {
        what: format!("{what}: {}", crate::failure::causes(error)),
        may_have_arrived: !error.is_connect(),
    }
}
