//! Open connections of the port for orchestrators, and descriptors kept back for it.

use std::{collections::VecDeque, fs::File, io};

use tokio::task::{AbortHandle, JoinSet};

/// Descriptors that are kept back. More than one, because another thread may take a descriptor that was freed.
const RESERVED_DESCRIPTORS: usize = 4;
/// `EMFILE` and `ENFILE` of Linux: no descriptor left in this process, or on this machine.
const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];

/// Whether an accept failed because no descriptor was left.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| OUT_OF_DESCRIPTORS.contains(&code))
}

/// The tasks of open connections.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    tasks: JoinSet<()>,
    /// Oldest first.
    open: VecDeque<AbortHandle>,
}

impl Connections {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
        }
    }

    /// Serves a connection in a task. Closes the oldest connections above the limit.
    ///
    /// An answer takes milliseconds, so the oldest connection is an idle one. To refuse new connections instead would let
    /// idle connections keep probes out.
    pub async fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.open.retain(|open| !open.is_finished());
        self.open.push_back(self.tasks.spawn(connection));
        while self.open.len() > self.max {
            self.close_oldest().await;
        }
    }

    /// Closes the oldest connection. Returns whether a connection was open.
    pub async fn close_oldest(&mut self) -> bool {
        self.open.retain(|open| !open.is_finished());
        let Some(oldest) = self.open.pop_front() else {
            return false;
        };
        oldest.abort();
        // The descriptor is free once the task is dropped.
        while !oldest.is_finished() {
            self.tasks.join_next().await;
        }
        true
    }

    /// Returns when a connection has ended, and its descriptor is free.
    pub async fn one_ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Descriptors that are kept back for the moment when the process has no other left.
#[derive(Debug)]
pub(super) struct Reserve(Vec<File>);

impl Reserve {
    pub fn new() -> Self {
        let mut reserve = Self(Vec::new());
        reserve.refill();
        reserve
    }

    /// Frees one descriptor. Returns whether one was left.
    pub fn free_one(&mut self) -> bool {
        self.0.pop().is_some()
    }

    /// Takes back what was freed, as far as descriptors are left.
    pub fn refill(&mut self) {
        while self.0.len() < RESERVED_DESCRIPTORS
            && let Ok(file) = File::open("/dev/null")
        {
            self.0.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Connections, Reserve, is_out_of_descriptors};

    #[tokio::test]
    async fn the_oldest_connection_above_the_limit_is_closed() {
        let mut open = Connections::new(2);
        let (held, mut closed) = (0..3)
            .map(|_| tokio::sync::oneshot::channel::<()>())
            .unzip::<_, _, Vec<_>, Vec<_>>();
        for held in held {
            open.add(async move {
                let _held = held;
                std::future::pending::<()>().await;
            })
            .await;
        }
        assert!(
            closed[0]
                .try_recv()
                .is_err_and(|error| { error == tokio::sync::oneshot::error::TryRecvError::Closed })
        );
        assert!(
            closed[1]
                .try_recv()
                .is_err_and(|error| { error == tokio::sync::oneshot::error::TryRecvError::Empty })
        );
        assert!(open.close_oldest().await && open.close_oldest().await);
        assert!(!open.close_oldest().await, "none is left");
    }

    #[test]
    fn the_reserve_is_filled_again() {
        let mut reserve = Reserve::new();
        while reserve.free_one() {}
        reserve.refill();
        assert!(reserve.free_one());
    }

    #[test]
    fn only_a_lack_of_descriptors_calls_for_the_reserve() {
        let error = std::io::Error::from_raw_os_error;
        assert!(is_out_of_descriptors(&error(24)));
        assert!(!is_out_of_descriptors(&error(103)), "ECONNABORTED");
    }
}
