//! A network that fails on request: stands between one process and one server, and knows what the two say to each other.
//!
//! Every point at which a process may die without the other side knowing lies between two messages. So the product needs no
//! failpoints: the proxy holds the message, does the action (kill, freeze, cut), and lets it go, or not
//! (`docs/adr/0008-faults-without-failpoints.md`).

mod link;
mod speech;
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
    speech::Protocol,
    trigger::{Action, On, Then, action},
};

/// What becomes of bytes on their way, on all connections alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkState {
    /// Whether new connections are taken, or reset at once.
    pub accepts: bool,
    /// Whether what clients send arrives; it waits while not, and is not lost.
    pub to_server: bool,
    pub to_client: bool,
    /// Of every piece, in either direction.
    pub delay: Duration,
}

impl NetworkState {
    pub const FAIR: Self = Self {
        accepts: true,
        to_server: true,
        to_client: true,
        delay: Duration::ZERO,
    };
}

/// Listens on a port of its own for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

struct Shared {
    speaks: Protocol,
    server: AtomicU16,
    weather: watch::Sender<NetworkState>,
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
    /// In front of 127.0.0.1:`server`.
    pub async fn start(speaks: Protocol, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            speaks,
            server: AtomicU16::new(server),
            weather: watch::Sender::new(NetworkState::HEALTHY),
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

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server moved; connections that are there stay with the old one.
    pub fn set_server(&self, server: u16) {
        self.shared.server.store(server, Relaxed);
    }

    pub fn set(&self, weather: NetworkState) {
        self.shared.weather.send_replace(weather);
    }

    /// Resets every connection.
    pub fn cut(&self) {
        self.doom(Fate::Cut, |_| true);
    }

    /// Resets the connections that sent a `LISTEN`; how many they were.
    pub fn cut_listeners(&self) -> usize {
        self.doom(Fate::Cut, Link::listens)
    }

    /// Half-open: what is connected now hears nothing more and is never told; new connections are not concerned.
    pub fn make_half_open(&self) -> usize {
        self.doom(Fate::Stranded, |_| true)
    }

    /// Does the action once, the first time that `on` comes by, and resolves then. Dropping the answer disarms it.
    pub fn arm(&self, on: On, action: Action) -> oneshot::Receiver<()> {
        let (fired, hears) = oneshot::channel();
        self.shared.triggers().push(Armed { on, action, fired });
        hears
    }

    fn doom(&self, fate: Fate, whom: impl Fn(&Link) -> bool) -> usize {
        let links = self.shared.links();
        let doomed = links.values().filter(|link| whom(link));
        doomed.map(|link| link.meets(fate)).count()
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

    /// Takes out the first armed trigger that this is about.
    fn take(&self, about: impl Fn(&On) -> bool) -> Option<Armed> {
        let mut triggers = self.triggers();
        triggers.retain(|armed| !armed.fired.is_closed());
        let found = triggers.iter().position(|armed| about(&armed.on))?;
        Some(triggers.remove(found))
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if !shared.weather.borrow().accepts {
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
