//! Leaving: claim no more, finish what is on the device and being written, release the rest at once, deregister.

use std::sync::{Arc, OnceLock};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How far the worker is on its way out. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Working,
    /// Claims no more; whatever is not on the device yet goes back.
    Draining,
    /// Gives everything back and ends, now.
    Leaving,
}

/// The phase, for everyone to read and to advance.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    trouble: Arc<OnceLock<String>>,
}

impl Drain {
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Working),
            trouble: Arc::default(),
        }
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Advances to `phase`; never goes back.
    pub fn advance(&self, phase: Phase, why: &str) {
        let advanced = self.phase.send_if_modified(|now| {
            let later = *now < phase;
            *now = phase.max(*now);
            later
        });
        if advanced {
            tracing::info!(drain.phase = ?phase, drain.why = why, "draining");
        }
    }

    /// Drains because this machine cannot work any more; the process ends as failed.
    pub fn broken(&self, why: String) {
        self.advance(Phase::Draining, &why);
        drop(self.trouble.set(why));
    }

    /// Why this machine cannot work any more, if so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    /// Returns once the worker is at least in `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut now = self.phase.subscribe();
        // The sender lives as long as `self`.
        drop(now.wait_for(|now| *now >= phase).await);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// The first SIGTERM or SIGINT drains, the second ends the worker at once.
///
/// # Errors
/// The signals cannot be listened to.
pub fn on_signals(drain: Drain) -> std::io::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        for phase in [Phase::Draining, Phase::Leaving] {
            tokio::select! {
                _ = term.recv() => drain.advance(phase, "SIGTERM"),
                _ = int.recv() => drain.advance(phase, "SIGINT"),
            }
        }
    });
    Ok(())
}
