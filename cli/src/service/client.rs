mod batches;

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use jobs::Secret;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap},
};
use serde_json::Value;

use super::{
    CallError, JobAnswer, Refusal, Service, Submission,
    patience::{Patience, Repeat},
};

/// Longest that the service is asked to hold an answer back; it allows 60.
const WAIT_SECONDS: u64 = 30;
/// Silence of the service that counts as its absence: longer than it may hold an answer back.
const SILENCE_MAX: Duration = Duration::from_secs(WAIT_SECONDS + 30);

/// A whole answer: one that breaks off counts as none.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(crate) text: String,
}

/// Speaks to one service, and tries again where that is safe.
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
        let http = reqwest::Client::builder()
            .user_agent(concat!("darkroom/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(SILENCE_MAX)
            .build();
        Ok(Self {
            http: http.map_err(|error| away("HTTP client", &error))?,
            url: service.url.trim_end_matches('/').to_owned(),
            api_key: service.api_key,
            patience: service.patience,
            has_told: AtomicBool::new(false),
        })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.api_key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// `GET path`, as the service wrote it.
    pub(crate) async fn get(&self, path: &str) -> Result<String, CallError> {
        self.repeatable(Method::GET, path).await
    }

    pub(crate) async fn get_json(&self, path: &str) -> Result<Value, CallError> {
        self.json(&self.get(path).await?)
    }

    /// A request without a body that may be repeated.
    pub(crate) async fn repeatable(&self, method: Method, path: &str) -> Result<String, CallError> {
        let build = || self.request(method.clone(), path);
        Ok(self.call(Repeat::Freely, build).await?.text)
    }

    /// A request whose repetition would do something more.
    pub(crate) async fn once_only(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, CallError> {
        let build = || match body {
            Some(body) => self.request(method.clone(), path).json(body),
            None => self.request(method.clone(), path),
        };
        Ok(self.call(Repeat::UnlessHeard, build).await?.text)
    }

    /// `PUT path`: the same again changes nothing.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<String, CallError> {
        let build = || self.request(Method::PUT, path).json(body);
        Ok(self.call(Repeat::Freely, build).await?.text)
    }

    /// One image, one job, however many tries it takes.
    pub(crate) async fn submit(&self, submission: &Submission<'_>) -> Result<JobAnswer, CallError> {
        let build = || submission.request(self.request(Method::POST, "/v1/jobs"));
        self.job(&self.call(Repeat::Freely, build).await?)
    }

    /// The job as it stands.
    pub(crate) async fn job_now(&self, id: &str) -> Result<JobAnswer, CallError> {
        let build = || self.request(Method::GET, &format!("/v1/jobs/{id}"));
        self.job(&self.call(Repeat::Freely, build).await?)
    }

    /// Waits until a job is no longer what `etag` says, or for a while; `None` if nothing changed.
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
        let answer = self.call(Repeat::Freely, build).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        self.job(&answer).map(Some)
    }

    fn job(&self, answer: &Answer) -> Result<JobAnswer, CallError> {
        let etag = answer.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| Some(etag.to_str().ok()?.to_owned()));
        Ok(JobAnswer {
            job: self.json(&answer.text)?,
            etag,
            waited: answer.headers.contains_key("preference-applied"),
            retry_after: retry_after(&answer.headers),
        })
    }

    /// Sends a request until there is an answer, the service refuses it, or patience is at its end.
    pub(crate) async fn call(
        &self,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, CallError> {
        self.patiently(repeat, async || {
            let response = self.once(build()).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let text = response.text().await;
            Ok(Answer {
                status,
                headers,
                text: text.map_err(|error| away(&self.url, &error.without_url()))?,
            })
        })
        .await
    }

    /// The same for an answer that is read by and by: once it has begun, it is not asked for again.
    async fn begun(
        &self,
        repeat: Repeat,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, CallError> {
        self.patiently(repeat, async || self.once(build()).await)
            .await
    }

    async fn patiently<T>(
        &self,
        repeat: Repeat,
        attempt: impl AsyncFn() -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut patience = Patience::new(self.patience);
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = patience.pause_after(&error, repeat) else {
                return Err(error);
            };
            self.tell(&error);
            tokio::time::sleep(pause).await;
        }
    }

    /// Once a command: that it is not hanging.
    fn tell(&self, error: &CallError) {
        let why = match error {
            CallError::Away { what, .. } => what.clone(),
            CallError::Refused(refusal) => format!("the service is busy ({})", refusal.status),
            CallError::Unreadable(_) => return,
        };
        if !self.has_told.swap(true, Relaxed) {
            let patience = humantime::format_duration(self.patience);
            eprintln!("note: {why}; trying again for up to {patience} (--patience)");
        }
    }

    /// Turns everything but 2xx and 304 into a [`Refusal`].
    async fn once(&self, request: RequestBuilder) -> Result<Response, CallError> {
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

    fn json(&self, text: &str) -> Result<Value, CallError> {
        serde_json::from_str(text).map_err(|error| CallError::Away {
            what: format!("the answer of {} is not JSON: {error}", self.url),
            heard: true,
        })
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn away(what: &str, error: &reqwest::Error) -> CallError {
    CallError::Away {
        what: format!("{what}: {}", crate::failure::causes(error)),
        heard: !error.is_connect(),
    }
}
