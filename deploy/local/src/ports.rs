//! TCP ports on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::Context as _;

/// A port that nobody listens on, other than those that services of the machine are expected on.
///
/// Another process may take it before its new owner does; who starts a server on it must look.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    Ok(listener.local_addr()?.port())
}

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
