//! An HTTP server of the test: a receiver of webhooks, or a host of images. It records requests, and the test decides its
//! answers.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jobs::{Sha256Digest, webhooks::DeliveryId};
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

/// One answer of the receiver.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// A status with one header.
    With(u16, &'static str, String),
    Body(&'static str, Vec<u8>),
    /// Reads the request and sends nothing.
    Hangs,
}

/// One received request.
#[derive(Debug, Clone)]
pub struct Heard {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Debug, Default)]
struct State {
    heard: Vec<Heard>,
    /// Answers to the next requests, in order. After these it answers 200.
    replies: VecDeque<Reply>,
    by_path: HashMap<&'static str, Reply>,
    /// Number of open requests for each `webhook-id`.
    at_work: HashMap<String, u32>,
    at_once_max: u32,
}

/// A running receiver. It stops on drop and closes every connection.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a receiver at this address.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, state.clone()));
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets the answers to the next requests, one for each.
    pub fn replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().replies.extend(replies);
    }

    /// Sets the answer to every request for this path.
    pub fn serves(&self, path: &'static str, reply: Reply) {
        self.state().by_path.insert(path, reply);
    }

    /// All requests so far.
    pub fn all(&self) -> Vec<Heard> {
        self.state().heard.clone()
    }

    /// All requests, once there are at least `count`.
    pub async fn heard(&self, count: usize) -> Vec<Heard> {
        let what = format!("{count} requests came");
        crate::eventually(Duration::from_secs(30), &what, || async {
            let heard = self.all();
            (heard.len() >= count).then_some(heard)
        })
        .await
    }

    /// The largest number of concurrent requests for one delivery.
    pub fn at_once_max(&self) -> u32 {
        self.state().at_once_max
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut conversations = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let service = service_fn(move |request| answer(state.clone(), request));
        conversations.spawn(async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that closes its connection is no error.
            drop(served.await);
        });
        while conversations.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes);
    let heard = Heard {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(),
    };
    let id = heard.header("webhook-id").to_owned();
    let reply = {
        let mut state = state.lock().unwrap();
        let at_work = state.at_work.entry(id.clone()).or_default();
        *at_work += 1;
        state.at_once_max = state.at_once_max.max(state.at_work[&id]);
        let fixed = state.by_path.get(heard.path.as_str()).cloned();
        state.heard.push(heard);
        fixed.or_else(|| state.replies.pop_front())
    };
    // Waits, so that two concurrent requests for one delivery overlap.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let response = Response::builder();
    let response = match reply.unwrap_or(Reply::Status(200)) {
        Reply::Status(status) => response.status(status).body(Full::default()),
        Reply::With(status, name, value) => {
            let response = response.status(status).header(name, value);
            response.body(Full::default())
        }
        Reply::Body(content_type, body) => {
            let response = response.header("content-type", content_type);
            response.body(Full::from(body))
        }
        Reply::Hangs => std::future::pending().await,
    };
    *state.lock().unwrap().at_work.entry(id).or_default() -= 1;
    Ok(response.unwrap())
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn id(&self) -> DeliveryId {
        self.header("webhook-id").parse().unwrap()
    }

    /// Whether one of the signatures was made with this secret. Computes HMAC itself instead of calling the code under test.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
        let mut block = key.unwrap();
        assert!(block.len() <= 64);
        block.resize(64, 0);
        let (id, timestamp) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let message = format!("{id}.{timestamp}.{}", self.body);
        let hash = |pad: u8, rest: &[u8]| {
            let padded: Vec<u8> = block.iter().map(|byte| byte ^ pad).collect();
            Sha256Digest::of(&[&padded, rest].concat())
        };
        let inner = hash(0x36, message.as_bytes());
        let signature = STANDARD.encode(hash(0x5c, inner.as_bytes()).as_bytes());
        let expected = format!("v1,{signature}");
        let signatures = self.header("webhook-signature").split(' ');
        signatures.into_iter().any(|one| one == expected)
    }
}
