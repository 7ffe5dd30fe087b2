//! A network that fails on request: a proxy between one process and one server that parses their messages.
//!
//! A process can only die unnoticed between two messages. So the product needs no failpoints: the proxy holds a message, runs
//! an action (kill, freeze, cut), and forwards or drops the message (`docs/adr/0008-faults-without-failpoints.md`).

mod link;
mod parser;
mod trigger;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
};

use self::{
    link::{Fate, Link},
    trigger::Armed,
};

pub use self::{
    parser::Protocol,
    trigger::{Action, On, Then, action},
};

/// What the proxy does with the bytes of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkState {
    /// Whether the proxy accepts new connections. If not, it resets them.
    pub accepts: bool,
    /// Whether bytes of clients pass. If not, they wait; they are not lost.
    pub to_server: bool,
    pub to_client: bool,
    /// Delay of every piece, in both directions.
    pub delay: Duration,
}

impl NetworkState {
    pub const HEALTHY: Self = Self {
        accepts: true,
        to_server: true,
        to_client: true,
        delay: Duration::ZERO,
    };
}

/// A running proxy. It stops on drop.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

struct Shared {
    protocol: Protocol,
    server: AtomicU16,
    network: watch::Sender<NetworkState>,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    triggers: Mutex<Vec<Armed>>,
    next: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy in front of port `server` of 127.0.0.1.
    pub async fn start(protocol: Protocol, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            protocol,
            server: AtomicU16::new(server),
            network: watch::Sender::new(NetworkState::HEALTHY),
            links: Mutex::default(),
            triggers: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Self {
            port,
            shared,
            listening,
        }
    }

    /// Port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the port of the server for new connections.
    pub fn set_server(&self, server: u16) {
        self.shared.server.store(server, Relaxed);
    }

    pub fn set(&self, network: NetworkState) {
        self.shared.network.send_replace(network);
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.set_fate(Fate::Cut, |_| true);
    }

    /// Resets the connections that sent a `LISTEN`. Returns how many they were.
    pub fn cut_listeners(&self) -> usize {
        self.set_fate(Fate::Cut, Link::listens)
    }

    /// Makes all current connections half-open: no byte passes, and no side is told. Returns how many they were.
    pub fn make_half_open(&self) -> usize {
        self.set_fate(Fate::Stranded, |_| true)
    }

    /// Runs the action once, at the first message that matches `on`; then the receiver resolves. To disarm, drop the receiver.
    pub fn arm(&self, on: On, action: Action) -> oneshot::Receiver<()> {
        let (fired, receiver) = oneshot::channel();
        self.shared.triggers().push(Armed { on, action, fired });
        receiver
    }

    fn set_fate(&self, fate: Fate, filter: impl Fn(&Link) -> bool) -> usize {
        let links = self.shared.links();
        let chosen = links.values().filter(|link| filter(link));
        chosen.map(|link| link.set_fate(fate)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.links.lock().unwrap()
    }

    fn triggers(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.triggers.lock().unwrap()
    }

    /// Removes and returns the first armed trigger that matches.
    fn take(&self, matches_on: impl Fn(&On) -> bool) -> Option<Armed> {
        let mut triggers = self.triggers();
        triggers.retain(|armed| !armed.fired.is_closed());
        let found = triggers.iter().position(|armed| matches_on(&armed.on))?;
        Some(triggers.remove(found))
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if !shared.network.borrow().accepts {
            drop(client.set_zero_linger());
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            let port = shared.server.load(Relaxed);
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                drop(client.set_zero_linger());
                return;
            };
            let number = shared.next.fetch_add(1, Relaxed);
            let link = Arc::new(Link::new());
            shared.links().insert(number, link.clone());
            link::relay(&shared, &link, client, server).await;
            shared.links().remove(&number);
        });
    }
}
