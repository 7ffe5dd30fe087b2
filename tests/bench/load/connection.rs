//! A keep-alive connection of one client. It must use little CPU, because it runs on the cores of the service. So it sends a
//! photo without a copy.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Request,
    body::{Body, Frame, SizeHint},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tests::Client;
use tokio::net::TcpStream;

/// A body in pieces, of known length.
#[derive(Debug, Default)]
pub(crate) struct Parts(VecDeque<Bytes>);

impl Parts {
    /// The body in one piece.
    pub(crate) fn into_one(self) -> Bytes {
        let parts: Vec<_> = self.0.into();
        parts.concat().into()
    }
}

impl<const N: usize> From<[Bytes; N]> for Parts {
    fn from(parts: [Bytes; N]) -> Self {
        Self(parts.into())
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

/// A connection to one API process, with one key.
#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    authorization: Option<hyper::header::HeaderValue>,
    sender: Option<SendRequest<Parts>>,
}

impl Connection {
    /// A connection to the address of `client`, with its key.
    pub(crate) fn of(client: &Client) -> Self {
        let request = client.request(reqwest::Method::GET, "/").build().unwrap();
        let url = request.url();
        Self {
            address: format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()),
            authorization: request.headers().get("authorization").cloned(),
            sender: None,
        }
    }

    /// Sends a request. Waits up to 30 s for the end of the job. Returns the JSON of the answer.
    pub(crate) async fn request(&mut self, method: &str, path: &str, body: Parts) -> Value {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("prefer", "wait=30");
        if !body.is_end_stream() {
            request = request.header("content-type", "image/jpeg");
        }
        if let Some(key) = &self.authorization {
            request = request.header("authorization", key);
        }
        let request = request.body(body).unwrap();
        let answer = self.sender().await.send_request(request).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&answer).unwrap()
    }

    async fn sender(&mut self) -> &mut SendRequest<Parts> {
        let open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !open {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender
            .as_mut()
            .expect("the connection was opened above")
    }
}
