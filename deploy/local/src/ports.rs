//! TCP ports on 127.0.0.1.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Mutex,
};

use anyhow::Context as _;

/// A port that nobody listens on, other than those that services of the machine are expected on.
///
/// A process is not answered the same twice, for some thousand answers: the first one's server may not listen yet. Another
/// process may take it before its new owner does; who starts a server on it must look.
pub fn free_port() -> anyhow::Result<u16> {
    static ANSWERED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut answered = ANSWERED.lock().expect("no panic holds it");
    if answered.len() >= REMEMBERED_MAX {
        answered.clear();
    }
    loop {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
        let port = listener.local_addr()?.port();
        if answered.insert(port) {
            return Ok(port);
        }
    }
}

/// Far from all 28,000 that Linux gives.
const REMEMBERED_MAX: usize = 4_000;

/// Whether a server could listen on `port` now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether somebody answers on `port`.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `remembered`, while it is free; else another one.
pub(crate) fn again_or_free(remembered: Option<u16>) -> anyhow::Result<u16> {
    match remembered {
        Some(port) if is_free(port) => Ok(port),
        _ => free_port(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::free_port;

    #[test]
    fn a_port_is_answered_once() {
        // Without a memory 130 of them came again.
        let ports: BTreeSet<_> = (0..2_000).map(|_| free_port().expect("a port")).collect();
        assert_eq!(ports.len(), 2_000);
    }
}
