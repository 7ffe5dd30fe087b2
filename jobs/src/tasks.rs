//! Background tasks of a process: none of them panics or ends unnoticed.
//!
//! A task that can begin anew is restarted after a panic ([`restart`]). A task that cannot ends the process ([`watch()`]):
//! `main` awaits [`ended`].

use std::{
    panic::AssertUnwindSafe,
    sync::LazyLock,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{sync::watch, task::JoinHandle};

use crate::backoff::Backoff;

/// Pause before the first restart after a panic.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a restart. A task that ran for longer begins with the first pause again.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// A background task ended that the process cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a background task ended: {name}")]
pub struct TaskEnded {
    pub name: &'static str,
}

/// Starts background tasks and reports the first one that ended.
#[derive(Debug)]
pub struct Supervisor {
    ended: watch::Sender<Option<TaskEnded>>,
    restart_pause: Duration,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            ended: watch::Sender::default(),
            restart_pause: RESTART_PAUSE,
        }
    }
}

/// The supervisor of this process.
static PROCESS: LazyLock<Supervisor> = LazyLock::new(Supervisor::default);

/// [`Supervisor::restart`] of this process's supervisor.
pub fn restart<F>(name: &'static str, start: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    PROCESS.restart(name, start)
}

/// [`Supervisor::watch`] of this process's supervisor.
pub fn watch(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    PROCESS.watch(name, task)
}

/// [`Supervisor::ended`] of this process's supervisor.
pub async fn ended() -> TaskEnded {
    PROCESS.ended().await
}

impl Supervisor {
    /// Runs the task that `start` makes. After a panic, which is logged under `name`, `start` makes the task anew; the pause
    /// before that doubles from panic to panic.
    ///
    /// A task that returns is done: all handles to it are gone.
    pub fn restart<F>(
        &self,
        name: &'static str,
        mut start: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut backoff = Backoff::new(self.restart_pause, RESTART_PAUSE_MAX);
        tokio::spawn(async move {
            loop {
                let started_at = Instant::now();
                let task = AssertUnwindSafe(async { start().await });
                if task.catch_unwind().await.is_ok() {
                    return;
                }
                if started_at.elapsed() > RESTART_PAUSE_MAX {
                    backoff.reset();
                }
                let pause = backoff.next_pause();
                tracing::error!(
                    task.name = name,
                    pause_ms = pause.as_millis() as u64,
                    "a background task panicked; restarting it after a pause"
                );
                tokio::time::sleep(pause).await;
            }
        })
    }

    /// Runs a task that must not end before the process does. If it panics or returns, [`ended`](Self::ended) reports it.
    pub fn watch(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let how = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(()) => "returned",
                Err(_) => "panicked",
            };
            tracing::error!(task.name = name, "a background task {how}");
            ended.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(TaskEnded { name });
                is_first
            });
        })
    }

    /// Returns the first watched task that ended; never, as long as all run.
    pub async fn ended(&self) -> TaskEnded {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(Option::is_some).await;
        match first.map(|first| *first) {
            Ok(Some(first)) => first,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use tokio::{sync::mpsc, time::timeout};

    use super::{Supervisor, TaskEnded};

    const AT_MOST: Duration = Duration::from_secs(10);

    fn impatient() -> Supervisor {
        Supervisor {
            restart_pause: Duration::from_millis(1),
            ..Supervisor::default()
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_is_restarted_until_it_returns() {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        let supervisor = impatient();
        let task = supervisor.restart("unlucky", move || {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(start == 2, "start {start} fails") }
        });
        let done = timeout(AT_MOST, task).await.expect("it returns");
        done.expect("its panics stay inside");
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        let ended = timeout(Duration::from_millis(10), supervisor.ended()).await;
        assert!(ended.is_err(), "a task that is done is no failure");
    }

    #[tokio::test]
    async fn a_restarted_task_goes_on_with_the_queue_of_the_one_before() {
        let (sender, receiver) = mpsc::channel(8);
        let (seen, mut all_seen) = mpsc::channel(8);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        impatient().restart("reader", move || {
            let (receiver, seen) = (receiver.clone(), seen.clone());
            async move {
                let mut receiver = receiver.lock().await;
                while let Some(number) = receiver.recv().await {
                    assert!(number != 2, "about one request");
                    seen.send(number).await.expect("the test listens");
                }
            }
        });
        for number in 1..=3 {
            sender.send(number).await.expect("the task reads");
        }
        let all = async { [all_seen.recv().await, all_seen.recv().await] };
        let all = timeout(AT_MOST, all).await.expect("the others are read");
        assert_eq!(all, [Some(1), Some(3)]);
    }

    #[tokio::test]
    async fn a_watched_task_that_panics_or_returns_is_reported_by_its_name() {
        let supervisor = Supervisor::default();
        supervisor.watch("runs", std::future::pending());
        supervisor.watch("panics", async { panic!("for a test") });
        let ended = timeout(AT_MOST, supervisor.ended()).await;
        let ended = ended.expect("it is reported");
        assert_eq!(ended.to_string(), "a background task ended: panics");

        let supervisor = Supervisor::default();
        supervisor.watch("returns", async {});
        let ended = timeout(AT_MOST, supervisor.ended()).await;
        assert_eq!(ended, Ok(TaskEnded { name: "returns" }));
    }

    #[tokio::test]
    async fn the_first_task_that_ended_is_reported_to_all_who_ask() {
        let supervisor = Supervisor::default();
        supervisor.watch("first", async {}).await.expect("it ends");
        supervisor.watch("second", async {}).await.expect("it ends");
        for _ in 0..2 {
            assert_eq!(supervisor.ended().await.name, "first");
        }
    }
}
