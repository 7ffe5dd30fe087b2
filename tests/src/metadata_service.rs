//! A metadata service as a cloud has it, on a port of the test's own: it says what the test wants it to, in time, late, or
//! not at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// Of this machine, in Azure's events.
const MACHINE: &str = "vm-7";

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Aws,
    Gcp,
    Azure,
}

/// How it misbehaves, whatever it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Takes the question and says nothing.
    Hangs,
    Unauthorized,
    InternalError,
    /// A good answer around a document that means nothing.
    Garbage,
    /// No HTTP at all.
    Noise,
    /// A byte now and then, for ever.
    Drips,
    /// More and more, for ever.
    Floods,
}

/// What it says when it behaves.
#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    ends_at: Option<DateTime<Utc>>,
    advises: bool,
    /// Of its clock against this machine's.
    ahead: TimeDelta,
    /// Tokens that it has handed out (AWS).
    tokens: u32,
    /// Tokens up to this one are refused.
    tokens_refused: u32,
    asked: u32,
    notices_told: u32,
}

/// A running service; it ends with this value.
#[derive(Debug)]
pub struct MetadataService {
    /// For `DARKROOM_METADATA_URL`.
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
                    // Whoever hangs up is no news.
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

    /// The machine is taken away in so long.
    pub fn notice(&self, left: Duration) {
        self.change(|state| {
            let now = Utc::now() + state.ahead;
            state.ends_at = Some(now + TimeDelta::from_std(left).unwrap());
        });
    }

    /// It stays after all.
    pub fn withdraw(&self) {
        self.change(|state| state.ends_at = None);
    }

    /// A rebalance recommendation (AWS).
    pub fn advise(&self) {
        self.change(|state| state.advises = true);
    }

    /// Its clock runs ahead of this machine's, or behind it.
    pub fn clock_ahead(&self, ahead: TimeDelta) {
        self.change(|state| state.ahead = ahead);
    }

    pub fn misbehave(&self, fault: Fault) {
        self.change(|state| state.fault = Some(fault));
    }

    pub fn behave(&self) {
        self.change(|state| state.fault = None);
    }

    /// Tokens that it has handed out so far are good for nothing (AWS).
    pub fn forget_tokens(&self) {
        self.change(|state| state.tokens_refused = state.tokens);
    }

    /// Questions so far.
    pub fn asked(&self) -> u32 {
        self.state().asked
    }

    /// Returns once it was asked so many times more.
    pub async fn is_asked_again(&self, times: u32) {
        let before = self.asked();
        let what = format!("the worker asks {times} times more");
        crate::eventually(Duration::from_mins(1), &what, || async {
            (self.asked() >= before + times).then_some(())
        })
        .await;
    }

    /// Returns once the worker has heard of a notice.
    pub async fn has_told_its_notice(&self) {
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

#[derive(Debug)]
struct Question {
    method: String,
    path: String,
    query: String,
    /// Names in lower case.
    headers: HashMap<String, String>,
}

impl Question {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn param(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }
}

#[derive(Debug)]
struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    fn new(status: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: vec![],
            body: body.into(),
        }
    }

    fn not_found() -> Self {
        Self::new("404 Not Found", "no such thing")
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(question) = read_question(&mut stream).await? else {
            return Ok(());
        };
        let fault = {
            let mut state = self.state();
            state.asked += 1;
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
            None => self.answer(&question).await,
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

    async fn answer(&self, question: &Question) -> Answer {
        match self.cloud {
            Cloud::Aws => self.answer_as_aws(question),
            Cloud::Gcp => self.answer_as_gcp(question).await,
            Cloud::Azure => self.answer_as_azure(question),
        }
    }

    fn answer_as_aws(&self, question: &Question) -> Answer {
        let mut state = self.state();
        if question.path == "/latest/api/token" {
            let seconds = question.header("x-aws-ec2-metadata-token-ttl-seconds");
            let seconds = seconds.and_then(|seconds| seconds.parse().ok());
            let granted = seconds.is_some_and(|seconds: u32| (1..=21_600).contains(&seconds));
            if question.method != "PUT" || !granted {
                return Answer::new("400 Bad Request", "");
            }
            state.tokens += 1;
            return Answer::new("200 OK", format!("token-{}==", state.tokens));
        }
        let token = question.header("x-aws-ec2-metadata-token");
        let good = (state.tokens_refused + 1..=state.tokens)
            .any(|number| token == Some(format!("token-{number}==").as_str()));
        if !good {
            return Answer::new("401 Unauthorized", "");
        }
        let now = Utc::now() + state.ahead;
        match (question.path.as_str(), state.ends_at) {
            ("/latest/meta-data/spot/instance-action", Some(end)) => {
                state.notices_told += 1;
                let time = end.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                let action = json!({ "action": "terminate", "time": time });
                Answer::new("200 OK", action.to_string())
            }
            ("/latest/meta-data/events/recommendations/rebalance", _) if state.advises => {
                let time = now.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                Answer::new("200 OK", json!({ "noticeTime": time }).to_string())
            }
            _ => Answer::not_found(),
        }
    }

    async fn answer_as_gcp(&self, question: &Question) -> Answer {
        if question.header("metadata-flavor") != Some("Google") {
            return Answer::new("403 Forbidden", "");
        }
        if question.path != "/computeMetadata/v1/instance/preempted" {
            return Answer::not_found();
        }
        let preempted = || self.state().ends_at.is_some();
        let tag = |preempted: bool| if preempted { "5ca1ab1e" } else { "0ddba11" };
        if question.param("wait_for_change") == Some("true") {
            let seconds = question
                .param("timeout_sec")
                .and_then(|seconds| seconds.parse().ok());
            // No longer than a second, which it may: a question that is held knows nothing of a later fault.
            let seconds = seconds.unwrap_or(1).min(1);
            let known = question.param("last_etag").unwrap_or_default();
            let mut news = self.news.subscribe();
            let changed = news.wait_for(|_| tag(preempted()) != known);
            drop(timeout(Duration::from_secs(seconds), changed).await);
        }
        let preempted = preempted();
        if preempted {
            self.state().notices_told += 1;
        }
        let mut answer = Answer::new("200 OK", if preempted { "TRUE" } else { "FALSE" });
        answer.headers = vec![
            ("Metadata-Flavor", "Google".into()),
            ("ETag", tag(preempted).into()),
        ];
        answer
    }

    fn answer_as_azure(&self, question: &Question) -> Answer {
        if question.header("metadata") != Some("true") || question.param("api-version").is_none() {
            return Answer::new("400 Bad Request", "");
        }
        let mut state = self.state();
        match question.path.as_str() {
            "/metadata/instance/compute/name" => Answer::new("200 OK", MACHINE),
            "/metadata/scheduledevents" => {
                let event = |id: &str, machine: &str, before: String| {
                    json!({
                        "EventId": id, "EventType": "Preempt", "ResourceType": "VirtualMachine", "Resources": [machine],
                        "EventStatus": "Scheduled", "NotBefore": before, "EventSource": "Platform",
                    })
                };
                // A neighbor that goes is nobody's business here.
                let neighbor = event("n", "vm-8", http_time(Utc::now() + state.ahead));
                let mut events = vec![neighbor];
                if let Some(end) = state.ends_at {
                    state.notices_told += 1;
                    events.push(event("o", MACHINE, http_time(end)));
                }
                let document = json!({ "DocumentIncarnation": 1, "Events": events });
                Answer::new("200 OK", document.to_string())
            }
            _ => Answer::not_found(),
        }
    }
}

fn http_time(time: DateTime<Utc>) -> String {
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The head of one request; what follows it is nothing that these services read.
async fn read_question(stream: &mut TcpStream) -> std::io::Result<Option<Question>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await?;
        if count == 0 || head.len() > 16 << 10 {
            return Ok(None);
        }
        head.extend_from_slice(&some[..count]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    let (path, query) = target
        .map(|target| target.split_once('?').unwrap_or((target, "")))
        .unwrap_or_default();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Some(Question {
        method: method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
    }))
}

async fn drip(stream: &mut TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        .await?;
    loop {
        stream.write_all(b"x").await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn flood(stream: &mut TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let mut chunk = b"10000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x10000, b'x');
    chunk.extend(b"\r\n");
    loop {
        stream.write_all(&chunk).await?;
    }
}
