//! HTTP by hand, for requests that no client library sends.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Longest time of one step. A server that leaves a client hanging fails its test.
const STEP_TIME_MAX: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct RawConnection {
    socket: TcpStream,
    host: String,
    received: Vec<u8>,
}

/// An answer with a `Content-Length`.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

impl RawConnection {
    /// Connects to `http://HOST:PORT`.
    pub async fn open(url: &str) -> Self {
        let host = url.trim_start_matches("http://").to_owned();
        let socket = TcpStream::connect(&host).await.unwrap();
        Self::new(socket, host)
    }

    /// Connects with a receive buffer of this size, so that little is sent to a client that does not read.
    pub async fn open_with_receive_buffer(url: &str, bytes: u32) -> Self {
        let host = url.trim_start_matches("http://").to_owned();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        let socket = socket.connect(host.parse().unwrap()).await.unwrap();
        Self::new(socket, host)
    }

    fn new(socket: TcpStream, host: String) -> Self {
        Self {
            socket,
            host,
            received: Vec::new(),
        }
    }

    /// Sends the head of a request. `headers` are lines without their ends.
    pub async fn send_head(&mut self, request: &str, headers: &[&str]) {
        let host = format!("Host: {}", self.host);
        let mut lines = vec![format!("{request} HTTP/1.1"), host];
        lines.extend(headers.iter().map(ToString::to_string));
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.send(head.as_bytes()).await.unwrap();
    }

    /// Sends one chunk of a chunked body; an empty one ends the body.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub async fn send_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        let size = format!("{:x}\r\n", chunk.len());
        self.send(&[size.as_bytes(), chunk, b"\r\n"].concat()).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = timeout(STEP_TIME_MAX, self.socket.write_all(bytes)).await;
        sent.expect("the server reads on")
    }

    /// The next answer.
    pub async fn answer(&mut self) -> RawAnswer {
        let answer = self.answer_within(STEP_TIME_MAX).await;
        answer.expect("an answer in time")
    }

    /// The next answer; `None` if it does not come within this time.
    pub async fn answer_within(&mut self, time: Duration) -> Option<RawAnswer> {
        timeout(time, async {
            loop {
                if let Some(answer) = take_answer(&mut self.received) {
                    return answer;
                }
                let read = self.socket.read_buf(&mut self.received).await.unwrap();
                assert!(
                    read > 0,
                    "closed before the answer was whole: {}",
                    String::from_utf8_lossy(&self.received)
                );
            }
        })
        .await
        .ok()
    }

    /// Returns when the server has closed the connection.
    pub async fn closed(&mut self) {
        let read = async {
            // An error is a closed connection too.
            while self.socket.read_buf(&mut self.received).await.unwrap_or(0) > 0 {}
        };
        timeout(STEP_TIME_MAX, read)
            .await
            .expect("the server closes the connection");
    }
}

fn take_answer(received: &mut Vec<u8>) -> Option<RawAnswer> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let mut answer = RawAnswer {
        status: 0,
        head: String::from_utf8_lossy(&received[..end]).into_owned(),
        body: Vec::new(),
    };
    answer.status = answer.head.get(9..12)?.parse().unwrap();
    let length = answer.header("content-length");
    let length = length.map_or(0, |length| length.parse().unwrap());
    answer.body = received.get(end..end + length)?.to_vec();
    received.drain(..end + length);
    Some(answer)
}
