//! Background tasks of the process, and its shutdown signal.
//!
//! A background task runs until the shutdown. One that panics or ends earlier leaves the process half alive, so the failure is
//! logged, `/readyz` answers 503, and the process ends with an error. Its supervisor starts it again.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Debug, Clone, Default)]
pub(crate) struct Background {
    tasks: TaskTracker,
    /// Canceled at SIGTERM, at SIGINT, or when a task fails.
    shutdown: CancellationToken,
    /// The first task that failed.
    failed: Arc<OnceLock<&'static str>>,
}

impl Background {
    /// Starts to listen for SIGTERM and SIGINT. Actix listens for them too, and stops accepting connections.
    pub fn start() -> Self {
        let this = Self::default();
        let shutdown = this.shutdown.clone();
        this.spawn_until_done("signal listener", async move {
            let (Ok(mut term), Ok(mut int)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) else {
                tracing::warn!("cannot listen for signals: held answers delay the shutdown");
                return shutdown.cancelled().await;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                () = shutdown.cancelled() => {}
            }
            shutdown.cancel();
        });
        this
    }

    /// The shutdown signal: canceled when no answer may be held any longer.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Runs a task that has no end of its own. The shutdown drops it at its next await.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.spawn_until_done(name, async move {
            shutdown.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends by itself after the shutdown signal. [`Background::finished`] waits for it.
    pub fn spawn_until_done(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let this = self.clone();
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            if ended.is_ok() && this.shutdown.is_cancelled() {
                return;
            }
            let outcome = if ended.is_ok() { "ended" } else { "panicked" };
            tracing::error!(task = name, outcome, "a background task failed");
            this.failed.get_or_init(|| name);
            this.shutdown.cancel();
        });
    }

    /// Name of the first task that failed.
    pub fn failure(&self) -> Option<&'static str> {
        self.failed.get().copied()
    }

    /// Returns when every task has ended. Call it after the shutdown signal.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Background;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_is_a_failure_and_starts_the_shutdown() {
        for panics in [false, true] {
            let background = Background::default();
            background.spawn("waits", std::future::pending());
            background.spawn("fails", async move { assert!(!panics, "on purpose") });
            background.shutdown().cancelled().await;
            background.finished().await;
            assert_eq!(background.failure(), Some("fails"));
        }
    }

    #[tokio::test]
    async fn tasks_that_end_after_the_shutdown_signal_are_no_failure() {
        let background = Background::default();
        let shutdown = background.shutdown().clone();
        background.spawn("waits", std::future::pending());
        background.spawn_until_done("drains", async move { shutdown.cancelled().await });
        background.shutdown().cancel();
        background.finished().await;
        assert_eq!(background.failure(), None);
    }
}
