//! Background tasks and threads whose end is noticed.
//!
//! If a task or thread panics, or ends while the worker works, the worker fails: it drains and ends with an error. Then its
//! supervisor starts it again. The panic hook logs the text of the panic.

use tokio::task::JoinHandle;

use crate::drain::Drain;

/// Spawns a task that must run as long as the worker works.
pub fn spawn(drain: &Drain, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let guard = EndGuard::new(drain, name, true);
    tokio::spawn(async move {
        let _guard = guard;
        task.await;
    });
}

/// Spawns a task that may end, but must not panic.
pub fn spawn_finite<T: Send + 'static>(
    drain: &Drain,
    name: &'static str,
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let guard = EndGuard::new(drain, name, false);
    tokio::spawn(async move {
        let _guard = guard;
        task.await
    })
}

/// Spawns a thread that must run as long as the worker works.
///
/// # Errors
/// The operating system cannot start another thread.
pub fn spawn_thread(
    drain: &Drain,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let guard = EndGuard::new(drain, name.clone(), true);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let _guard = guard;
        work();
    });
    thread.map(drop)
}

/// Makes the worker fail if the guard is dropped by a panic, or too early.
struct EndGuard {
    drain: Drain,
    name: String,
    must_run: bool,
}

impl EndGuard {
    fn new(drain: &Drain, name: impl Into<String>, must_run: bool) -> Self {
        Self {
            drain: drain.clone(),
            name: name.into(),
            must_run,
        }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let name = &self.name;
        if std::thread::panicking() {
            self.drain.fail(&format!("`{name}` panicked"));
        } else if self.must_run && self.drain.is_working() {
            self.drain.fail(&format!("`{name}` ended unexpectedly"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EndGuard, spawn, spawn_finite, spawn_thread};
    use crate::drain::{Drain, Phase};

    #[tokio::test]
    async fn a_task_that_ends_while_the_worker_works_makes_it_fail() {
        let drain = Drain::new();
        spawn(&drain, "keeper", async {});
        drain.reached(Phase::Draining).await;
        assert_eq!(drain.failure(), Some("`keeper` ended unexpectedly"));
    }

    #[tokio::test]
    async fn a_task_that_panics_makes_the_worker_fail() {
        let drain = Drain::new();
        let task = spawn_finite(&drain, "claim", async { panic!("of a test") });
        let ended: Result<(), _> = task.await;
        assert!(ended.is_err());
        assert_eq!(drain.failure(), Some("`claim` panicked"));
    }

    #[tokio::test]
    async fn a_thread_that_panics_makes_the_worker_fail() {
        let drain = Drain::new();
        spawn_thread(&drain, "infer-0".into(), || panic!("of a test")).expect("starts");
        drain.reached(Phase::Draining).await;
        assert_eq!(drain.failure(), Some("`infer-0` panicked"));
    }

    #[tokio::test]
    async fn a_finite_task_may_end_at_any_time_and_any_task_in_a_drain() {
        let drain = Drain::new();
        let answer = spawn_finite(&drain, "look", async { 7 }).await;
        assert_eq!(answer.expect("no panic"), 7);
        assert!(drain.is_working());
        drain.advance(Phase::Finishing, "a test");
        drop(EndGuard::new(&drain, "claimer", true));
        assert_eq!((drain.phase(), drain.failure()), (Phase::Finishing, None));
    }
}
