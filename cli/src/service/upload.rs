//! Uploads of files by signed requests, straight into the object store. They carry no API key.

use std::{
    io,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use backon::BackoffBuilder;
use bytes::BytesMut;
use futures_util::stream::try_unfold;
use reqwest::{Body, Method};
use tokio::{
    fs::File,
    io::AsyncReadExt,
    time::{Instant, timeout},
};
use wire::PresignedPut;

use super::{
    CallError, Service,
    client::{CONNECT_MAX, SILENCE_MAX, USER_AGENT, away},
    retry::{pause, pauses},
};

const CHUNK_BYTES: usize = 256 << 10;
/// How often the progress is told.
const TICK: Duration = Duration::from_millis(250);

/// How an upload ended that reached the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UploadEnd {
    Stored,
    /// The store refused the request: the URL has expired, or the file has changed. The text says what the store said.
    Refused(String),
}

/// Sends files to the object store.
#[derive(Debug)]
pub(crate) struct Uploader {
    http: reqwest::Client,
    patience: Duration,
}

impl Uploader {
    pub(crate) fn new(service: &Service) -> Result<Self, CallError> {
        // No read time-out: it would count from the start of the request, and an upload may take hours.
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Ok(Self {
            http: http.map_err(|error| away("HTTP client", &error))?,
            patience: service.patience,
        })
    }

    /// Uploads one file from the disk, in pieces. Tries again while the store is away: two uploads have the effect of one. `tell`
    /// gets the bytes that this try has sent so far.
    pub(crate) async fn upload(
        &self,
        put: &PresignedPut,
        path: &Path,
        tell: impl Fn(u64),
    ) -> Result<UploadEnd, CallError> {
        let (mut until, mut pauses) = (Instant::now() + self.patience, pauses().build());
        loop {
            let began_at = Instant::now();
            let error = match self.upload_once(put, path, &tell).await {
                Err(error @ CallError::Away { .. }) => error,
                ended => return ended,
            };
            // A try may take longer than the patience of a call. So only the pauses count.
            until += began_at.elapsed();
            match pauses.next().and_then(|own| pause(&error, own, until)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn upload_once(
        &self,
        put: &PresignedPut,
        path: &Path,
        tell: &impl Fn(u64),
    ) -> Result<UploadEnd, CallError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CallError::Unreadable(format!("cannot read {}: {error}", path.display()))
        };
        let file = File::open(path).await.map_err(|error| unreadable(&error))?;
        let method = put.method.parse().unwrap_or(Method::PUT);
        let mut request = self.http.request(method, &put.url);
        // One of these is the length, so that the body is not sent in HTTP chunks, which stores refuse.
        for (name, value) in &put.headers {
            request = request.header(name, value);
        }
        let sent = Arc::new(AtomicU64::new(0));
        let request = request.body(body(file, Arc::clone(&sent)));
        let mut sending = pin!(request.send());
        let (mut seen, mut moved_at) = (0, Instant::now());
        let answer = loop {
            if let Ok(answer) = timeout(TICK, &mut sending).await {
                break answer;
            }
            let now = sent.load(Relaxed);
            tell(now);
            if now != seen {
                (seen, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() > SILENCE_MAX {
                return Err(CallError::Away {
                    what: format!("object store: no answer for {} s", SILENCE_MAX.as_secs()),
                    may_have_arrived: true,
                });
            }
        };
        // The URL is a credential for some minutes: it stays out of messages.
        let answer = answer.map_err(|error| away("object store", &error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            tell(sent.load(Relaxed));
            return Ok(UploadEnd::Stored);
        }
        let said: String = answer.text().await.unwrap_or_default();
        let said: String = said.trim().chars().take(300).collect();
        let what = format!("object store: HTTP {status}: {said}");
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(CallError::Away {
                what,
                may_have_arrived: true,
            });
        }
        Ok(UploadEnd::Refused(what))
    }
}

/// The file as a body, read while it is sent.
fn body(file: File, sent: Arc<AtomicU64>) -> Body {
    Body::wrap_stream(try_unfold((file, sent), |(mut file, sent)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let length = file.read_buf(&mut chunk).await?;
        sent.fetch_add(length as u64, Relaxed);
        let next = (length > 0).then(|| (chunk.freeze(), (file, sent)));
        Ok::<_, io::Error>(next)
    }))
}
