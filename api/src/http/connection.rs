//! The connection of a client: ignores offers of other protocols, and gives up a client that does not read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::upgrade_offers::UpgradeOffers;

pub(super) struct Connection {
    stream: TcpStream,
    offers: UpgradeOffers,
    /// Received bytes that were not passed on yet. Without memory unless the head of a request came in parts.
    held: BytesMut,
    /// How many of the held bytes may be passed on.
    passable: usize,
    write_timeout: Duration,
    /// Runs while the client takes no byte.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        Self {
            stream,
            offers: UpgradeOffers::default(),
            held: BytesMut::new(),
            passable: 0,
            write_timeout,
            stalled: None,
        }
    }

    /// Passes on held bytes. Returns whether there were any.
    fn pass_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let passed = self.passable.min(buffer.remaining());
        buffer.put_slice(&self.held[..passed]);
        self.held.advance(passed);
        self.passable -= passed;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        passed > 0
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.pass_on(buffer) {
            let start = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let received = &mut buffer.filled_mut()[start..];
            if received.is_empty() {
                if this.held.is_empty() {
                    break;
                }
                // The client ended within a head. The next read passes on the end.
                this.passable = this.held.len();
            } else if this.held.is_empty() {
                let passable = this.offers.ignore(received);
                this.held.extend_from_slice(&received[passable..]);
                buffer.set_filled(start + passable);
                if passable > 0 {
                    break;
                }
            } else {
                this.held.extend_from_slice(received);
                buffer.set_filled(start);
                this.passable = this.offers.ignore(&mut this.held);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        if written.is_ready() {
            this.stalled = None;
            return written;
        }
        let timeout = this.write_timeout;
        let stalled = this.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        let error = "the client does not read its response";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::Connection;

    async fn pair(write_timeout: Duration) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        let connection = Connection::new(stream, write_timeout);
        (client.expect("a connection"), connection)
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, mut connection) = pair(Duration::from_millis(50)).await;
        // More than the socket buffers of both sides take.
        let written = connection.write_all(&vec![0; 64 << 20]).await;
        let error = written.expect_err("the client reads nothing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_head_in_parts_and_a_head_that_never_ends_are_passed_on() {
        let (mut client, mut connection) = pair(Duration::from_secs(1)).await;
        let send = async {
            for part in ["GET / HT", "TP/1.1\r\nUpgr", "ade: h2c\r\n", "\r\nGET / H"] {
                client.write_all(part.as_bytes()).await?;
                client.flush().await?;
                tokio::task::yield_now().await;
            }
            client.shutdown().await
        };
        let (mut received, mut piece) = (Vec::new(), [0; 5]);
        let receive = async {
            loop {
                let length = connection.read(&mut piece).await?;
                if length == 0 {
                    return io::Result::Ok(());
                }
                received.extend_from_slice(&piece[..length]);
            }
        };
        let (end_of_sending, end) = tokio::join!(send, receive);
        end_of_sending.and(end).expect("an open connection");
        let received = String::from_utf8(received).expect("text");
        assert_eq!(received, "GET / HTTP/1.1\r\nx-offer: h2c\r\n\r\nGET / H");
    }
}
