//! One connection through the proxy.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::sleep,
};

use super::{
    NetworkState, Shared,
    parser::{Answers, Requests},
    trigger::{Armed, Then},
};
use crate::wire::Kind;

const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Stranded,
    Cut,
}

/// State of a connection.
#[derive(Debug)]
pub(super) struct Link {
    fate: watch::Sender<Fate>,
    listens: AtomicBool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side closed it.
    Closed,
    Reset,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

#[derive(Debug, Clone, Copy)]
enum Toward {
    Server,
    Client,
}

impl Link {
    pub fn new() -> Self {
        Self {
            fate: watch::Sender::new(Fate::Open),
            listens: AtomicBool::new(false),
        }
    }

    pub fn set_fate(&self, fate: Fate) {
        self.fate.send_replace(fate);
    }

    pub fn listens(&self) -> bool {
        self.listens.load(Relaxed)
    }
}

/// Relays bytes in both directions until one side closes or the connection is reset.
pub(super) async fn relay(
    shared: &Shared,
    link: &Link,
    mut client: TcpStream,
    mut server: TcpStream,
) {
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let mut requests = Requests::new(shared.protocol);
    let end = if let Err(error) = greet(&mut requests, &mut client, &mut server).await {
        End::from(error)
    } else {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let awaited = Mutex::new(None);
        let relay = Relay {
            shared,
            link,
            awaited: &awaited,
        };
        let end = tokio::select! {
            end = relay.relay_requests(requests, from_client, to_server) => end,
            end = relay.relay_answers(from_server, to_client) => end,
        };
        end.unwrap_or_else(|end| end)
    };
    if end == End::Reset {
        drop((client.set_zero_linger(), server.set_zero_linger()));
    }
}

/// Relays the messages before a Postgres session. Refuses encryption: the proxy could not read encrypted statements.
async fn greet(
    requests: &mut Requests,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> io::Result<()> {
    if requests.is_http() {
        return Ok(());
    }
    loop {
        let Some(message) = requests.messages.pop() else {
            let mut bytes = [0; 4096];
            match client.read(&mut bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => requests.messages.push(&bytes[..count]),
            }
            continue;
        };
        match message.kind {
            Kind::SslRequest | Kind::GssRequest => client.write_all(b"N").await?,
            _ => server.write_all(message.bytes()).await?,
        }
        if message.kind == Kind::Startup {
            return Ok(());
        }
    }
}

struct Relay<'a> {
    shared: &'a Shared,
    link: &'a Link,
    /// The trigger that waits for the answer to the last request.
    awaited: &'a Mutex<Option<Armed>>,
}

impl Relay<'_> {
    async fn relay_requests(
        &self,
        mut requests: Requests,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<End, End> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut pieces = requests.pending();
        loop {
            for piece in pieces {
                self.wait_for_passage(Toward::Server).await?;
                if let Some(command) = &piece.command {
                    if command
                        .get(..6)
                        .is_some_and(|word| word.eq_ignore_ascii_case("listen"))
                    {
                        self.link.listens.store(true, Relaxed);
                    }
                    if let Some(armed) = self.shared.take(|on| on.is_asked(command))
                        && armed.fire().await == Then::Cut
                    {
                        return Err(End::Reset);
                    }
                    if let Some(armed) = self.shared.take(|on| on.is_answered(command)) {
                        *self.awaited.lock().unwrap() = Some(armed);
                    }
                }
                to.write_all(&piece.bytes).await?;
            }
            let count = self.read(&mut from, &mut buffer, Toward::Server).await?;
            pieces = requests.read(&buffer[..count]);
        }
    }

    async fn relay_answers(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> Result<End, End> {
        let mut answers = Answers::new(self.shared.protocol);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = self.read(&mut from, &mut buffer, Toward::Client).await?;
            self.wait_for_passage(Toward::Client).await?;
            let mut onward = Vec::with_capacity(count);
            for piece in answers.read(&buffer[..count]) {
                let awaited = piece.answers.then(|| self.awaited.lock().unwrap().take());
                if let Some(armed) = awaited.flatten()
                    && armed.fire().await == Then::Cut
                {
                    return Err(End::Reset);
                }
                // The action may have made this connection half-open.
                self.wait_for_passage(Toward::Client).await?;
                onward.extend_from_slice(&piece.bytes);
                if let Some(armed) = self.shared.take(|on| on.matches_answer(&piece.bytes)) {
                    to.write_all(&std::mem::take(&mut onward)).await?;
                    if armed.fire().await == Then::Cut {
                        return Err(End::Reset);
                    }
                }
            }
            to.write_all(&onward).await?;
        }
    }

    /// Reads the next bytes. The end of the stream also waits until the network lets it pass.
    async fn read(
        &self,
        from: &mut ReadHalf<'_>,
        buffer: &mut [u8],
        toward: Toward,
    ) -> Result<usize, End> {
        let mut fate = self.link.fate.subscribe();
        let count = tokio::select! {
            count = from.read(buffer) => count.unwrap_or(0),
            _ = fate.wait_for(|fate| *fate == Fate::Cut) => return Err(End::Reset),
        };
        if count == 0 {
            self.wait_for_passage(toward).await?;
            return Err(End::Closed);
        }
        Ok(count)
    }

    /// Waits until the network lets bytes pass.
    async fn wait_for_passage(&self, toward: Toward) -> Result<(), End> {
        let mut fate = self.link.fate.subscribe();
        let mut network = self.shared.network.subscribe();
        let mut slept = false;
        loop {
            let NetworkState {
                to_server,
                to_client,
                delay,
                ..
            } = *network.borrow_and_update();
            let open = match toward {
                Toward::Server => to_server,
                Toward::Client => to_client,
            };
            let current = *fate.borrow_and_update();
            match current {
                Fate::Cut => return Err(End::Reset),
                Fate::Open if open && (slept || delay.is_zero()) => return Ok(()),
                Fate::Open if open => {
                    tokio::select! {
                        () = sleep(delay) => slept = true,
                        _ = fate.changed() => {}
                    }
                }
                Fate::Open | Fate::Stranded => {
                    tokio::select! {
                        _ = network.changed() => {}
                        _ = fate.changed() => {}
                    }
                }
            }
        }
    }
}
