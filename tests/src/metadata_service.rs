//! A fake of the metadata service of a cloud. The test decides what it answers, and how it fails.

mod clouds;
mod http;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use self::http::{Answer, drip, flood, http_time, read_request};

/// The cloud of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Aws,
    Gcp,
    Azure,
}

/// How the service fails, for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reads the request and sends nothing.
    Hangs,
    Unauthorized,
    InternalError,
    /// A 200 with an invalid document.
    Garbage,
    /// Bytes that are no HTTP.
    Noise,
    /// A body that comes one byte at a time, without end.
    Drips,
    /// A large body without end.
    Floods,
}

/// What the service knows.
#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    ends_at: Option<DateTime<Utc>>,
    advises: bool,
    /// Offset of the service's clock from this machine's clock.
    ahead: TimeDelta,
    /// Issued tokens (AWS).
    tokens: u32,
    /// Tokens up to this one are refused.
    tokens_refused: u32,
    request_count: u32,
    notices_told: u32,
}

/// A running service. It stops on drop.
#[derive(Debug)]
pub struct MetadataService {
    /// Value for `DARKROOM_METADATA_URL`.
    pub url: String,
    pub cloud: Cloud,
    state: Arc<Mutex<State>>,
    news: watch::Sender<u32>,
    serving: JoinHandle<()>,
}

impl Drop for MetadataService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl MetadataService {
    pub async fn start(cloud: Cloud) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let news = watch::Sender::new(0);
        let server = Server {
            cloud,
            state: state.clone(),
            news: news.clone(),
        };
        let serving = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                conversations.spawn(async move {
                    // A client that closes its connection is no error.
                    drop(server.converse(stream).await);
                });
                while conversations.try_join_next().is_some() {}
            }
        });
        Self {
            url,
            cloud,
            state,
            news,
            serving,
        }
    }

    /// `DARKROOM_PREEMPTION` and `DARKROOM_METADATA_URL` of a worker on this machine.
    pub fn env(&self) -> [(&str, &str); 2] {
        let cloud = match self.cloud {
            Cloud::Aws => "aws",
            Cloud::Gcp => "gcp",
            Cloud::Azure => "azure",
        };
        [
            ("DARKROOM_PREEMPTION", cloud),
            ("DARKROOM_METADATA_URL", &self.url),
        ]
    }

    /// Announces that the cloud takes the machine in `left`.
    pub fn notice(&self, left: Duration) {
        self.change(|state| {
            let now = Utc::now() + state.ahead;
            state.ends_at = Some(now + TimeDelta::from_std(left).unwrap());
        });
    }

    /// Withdraws the notice.
    pub fn withdraw(&self) {
        self.change(|state| state.ends_at = None);
    }

    /// Publishes a rebalance recommendation (AWS).
    pub fn advise(&self) {
        self.change(|state| state.advises = true);
    }

    /// Sets the offset of the service's clock from this machine's clock.
    pub fn clock_ahead(&self, ahead: TimeDelta) {
        self.change(|state| state.ahead = ahead);
    }

    pub fn misbehave(&self, fault: Fault) {
        self.change(|state| state.fault = Some(fault));
    }

    pub fn behave(&self) {
        self.change(|state| state.fault = None);
    }

    /// Invalidates all issued tokens (AWS).
    pub fn forget_tokens(&self) {
        self.change(|state| state.tokens_refused = state.tokens);
    }

    /// Number of requests so far.
    pub fn request_count(&self) -> u32 {
        self.state().request_count
    }

    /// Waits for so many more requests.
    pub async fn wait_for_requests(&self, times: u32) {
        let before = self.request_count();
        let what = format!("the worker sends {times} more requests");
        crate::eventually(Duration::from_mins(1), &what, || async {
            (self.request_count() >= before + times).then_some(())
        })
        .await;
    }

    /// Waits until the worker has read a notice.
    pub async fn wait_until_notice_is_read(&self) {
        crate::eventually(Duration::from_mins(1), "the notice is read", || async {
            (self.state().notices_told > 0).then_some(())
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.news.send_modify(|version| *version += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[derive(Debug, Clone)]
struct Server {
    cloud: Cloud,
    state: Arc<Mutex<State>>,
    news: watch::Sender<u32>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = read_request(&mut stream).await? else {
            return Ok(());
        };
        let fault = {
            let mut state = self.state();
            state.request_count += 1;
            state.fault
        };
        let answer = match fault {
            Some(Fault::Hangs) => return std::future::pending().await,
            Some(Fault::Noise) => return stream.write_all(&[0xfe; 512]).await,
            Some(Fault::Drips) => return drip(&mut stream).await,
            Some(Fault::Floods) => return flood(&mut stream).await,
            Some(Fault::Unauthorized) => Answer::new("401 Unauthorized", "who are you?"),
            Some(Fault::InternalError) => Answer::new("500 Internal Server Error", "oh no"),
            Some(Fault::Garbage) => Answer::new("200 OK", "<html>\u{fffd}{\"action\": \"term"),
            None => self.answer(&request).await,
        };
        self.say(&mut stream, answer).await
    }

    async fn say(&self, stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
        let now = Utc::now() + self.state().ahead;
        let Answer {
            status,
            headers,
            body,
        } = answer;
        let mut text = format!(
            "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
            http_time(now),
            body.len()
        );
        for (name, value) in headers {
            text.extend([name, ": ", &value, "\r\n"]);
        }
        text += "\r\n";
        text += &body;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    }
}
