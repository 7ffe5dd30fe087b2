//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    background,
    drain::{Drain, Phase},
};

/// Drains the worker on the first SIGTERM or SIGINT, and ends it at once on the second one.
///
/// # Errors
/// The process cannot receive these signals.
pub fn listen(drain: &Drain) -> std::io::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let listening = drain.clone();
    background::spawn_finite(drain, "shutdown signals", async move {
        for phase in [Phase::Draining, Phase::Leaving] {
            tokio::select! {
                _ = term.recv() => listening.advance(phase, "SIGTERM"),
                _ = int.recv() => listening.advance(phase, "SIGINT"),
            }
        }
    });
    Ok(())
}
