//! TCP ports on 127.0.0.1.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Mutex,
};

use anyhow::Context as _;

/// A port that no server listens on, from the range that the kernel picks from.
///
/// This process gets each port only once, for some thousand calls: the server of an earlier call may not listen yet. Another
/// process can still take the port. So the caller must check that its server has started.
pub fn free_port() -> anyhow::Result<u16> {
    static RETURNED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut returned = RETURNED.lock().expect("no holder panics");
    if returned.len() >= REMEMBERED_MAX {
        returned.clear();
    }
    loop {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        let port = listener.local_addr()?.port();
        if returned.insert(port) {
            return Ok(port);
        }
    }
}

/// A small part of the 28,000 ports that Linux picks from.
const REMEMBERED_MAX: usize = 4_000;

/// Whether a server could start to listen on `port` now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether a server accepts connections on `port`.
pub(crate) fn accepts_connections(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `previous` if it is free, else another free port.
pub(crate) fn previous_or_free(previous: Option<u16>) -> anyhow::Result<u16> {
    match previous {
        Some(port) if is_free(port) => Ok(port),
        _ => free_port(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::free_port;

    #[test]
    fn a_port_is_returned_once() {
        // When ports were not remembered, 130 of these came twice.
        let ports: BTreeSet<_> = (0..2_000).map(|_| free_port().expect("a port")).collect();
        assert_eq!(ports.len(), 2_000);
    }
}
