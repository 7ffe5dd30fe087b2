//! After a failover a connection may lead to a server that takes no writes, and stays open for as long as it is used. So the
//! first error that tells of it makes all older connections of the process suspect: none of these is used again.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Trouble;

/// Least time between two marks. While only a standby can be reached, connections are opened anew no more often than this.
const MARK_EVERY: Duration = Duration::from_secs(2);

/// A time: connections that were opened before it are not used again.
#[derive(Debug)]
struct Mark(Mutex<Option<Instant>>);

/// The mark of this process. Errors are seen in places that do not know the pool.
static MARK: Mark = Mark::new();

impl Mark {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn set(&self, now: Instant) {
        let mut mark = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |mark: Instant| now.saturating_duration_since(mark) < MARK_EVERY;
        if !mark.is_some_and(is_fresh) {
            *mark = Some(now);
        }
    }

    fn is_after(&self, opened_at: Instant) -> bool {
        let mark = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mark.is_some_and(|mark| opened_at < mark)
    }
}

/// Makes the connections of this process suspect if the error says that another connection may do better. To be called with
/// every error of Postgres.
pub fn note_error(error: &(dyn Error + 'static)) {
    if Trouble::of(error).is_some_and(Trouble::spoils_connection) {
        suspect_connections();
    }
}

/// Makes all connections of this process suspect that are open now.
pub(super) fn suspect_connections() {
    MARK.set(Instant::now());
}

/// Whether a connection that was opened at this time must not be used again.
pub(super) fn is_suspect(opened_at: Instant) -> bool {
    MARK.is_after(opened_at)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MARK_EVERY, Mark};

    #[test]
    fn connections_older_than_the_error_are_suspect_and_later_ones_are_not() {
        let (mark, at) = (Mark::new(), Instant::now() + Duration::from_mins(1));
        let before = at.checked_sub(Duration::from_millis(1)).expect("a minute");
        assert!(!mark.is_after(before));
        mark.set(at);
        assert!(mark.is_after(before));
        assert!(!mark.is_after(at));
    }

    #[test]
    fn many_errors_do_not_close_each_new_connection_at_once() {
        let (mark, at) = (Mark::new(), Instant::now());
        mark.set(at);
        mark.set(at + MARK_EVERY / 2);
        assert!(!mark.is_after(at), "opened after the first error");
        mark.set(at + MARK_EVERY);
        assert!(mark.is_after(at + MARK_EVERY / 2));
    }
}
