//! Whether to try again, and when.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::CallError;

const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What repeating a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nothing: twice is the same as once.
    Freely,
    /// Something: only a request that certainly did nothing is sent again.
    UnlessHeard,
}

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(lasts: Duration) -> Self {
        Self {
            until: Instant::now() + lasts,
            pause: PAUSE,
        }
    }

    /// The pause before the next try; `None` if there is no point in one, or no time left.
    ///
    /// At least what `Retry-After` asks for, and never the same for many clients: they would all come back at once.
    pub(super) fn pause_after(&mut self, error: &CallError, repeat: Repeat) -> Option<Duration> {
        let asked = asked_pause(error, repeat)?;
        let own = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let pause = if asked.is_zero() {
            own.mul_f64(rand::rng().random_range(0.5..1.0))
        } else {
            asked + own.min(asked).mul_f64(rand::random())
        };
        (Instant::now() + pause <= self.until).then_some(pause)
    }
}

/// What the service asks for, zero if it says nothing; `None` if the request must not be sent again.
fn asked_pause(error: &CallError, repeat: Repeat) -> Option<Duration> {
    match error {
        CallError::Away { heard, .. } => {
            (!heard || repeat == Repeat::Freely).then_some(Duration::ZERO)
        }
        CallError::Refused(refusal) => {
            let again = match refusal.status {
                429 | 503 => true,
                502 | 504 => repeat == Repeat::Freely,
                409 => refusal.is_in_flight(),
                _ => false,
            };
            again.then_some(refusal.retry_after.unwrap_or_default())
        }
        CallError::Unreadable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Patience, Repeat};
    use crate::service::{CallError, Refusal};

    fn refused(status: u16, retry_after: Option<Duration>) -> CallError {
        CallError::Refused(Refusal::new("http://darkroom", status, retry_after, "{}"))
    }

    fn away(heard: bool) -> CallError {
        CallError::Away {
            what: "gone".into(),
            heard,
        }
    }

    #[test]
    fn what_may_have_been_done_is_done_again_only_where_that_is_harmless() {
        let tried_again = |error: &CallError, repeat| {
            Patience::new(Duration::from_mins(1))
                .pause_after(error, repeat)
                .is_some()
        };
        assert!(tried_again(&away(true), Repeat::Freely));
        assert!(!tried_again(&away(true), Repeat::UnlessHeard));
        assert!(tried_again(&away(false), Repeat::UnlessHeard));
        assert!(!tried_again(&refused(504, None), Repeat::UnlessHeard));
        for status in [429, 503] {
            assert!(tried_again(&refused(status, None), Repeat::UnlessHeard));
        }
        for status in [400, 401, 404, 409, 413, 422, 500] {
            assert!(
                !tried_again(&refused(status, None), Repeat::Freely),
                "{status}"
            );
        }
    }

    #[test]
    fn a_pause_is_no_shorter_than_asked_and_ends_with_the_patience() {
        let asked = Duration::from_secs(3);
        let error = refused(429, Some(asked));
        let pause = Patience::new(Duration::from_mins(1)).pause_after(&error, Repeat::Freely);
        assert!(pause.is_some_and(|pause| (asked..asked * 2).contains(&pause)));
        assert_eq!(
            Patience::new(Duration::from_secs(1)).pause_after(&error, Repeat::Freely),
            None
        );
    }

    #[test]
    fn pauses_grow() {
        let mut patience = Patience::new(Duration::from_hours(1));
        let pauses: Vec<_> = (0..6)
            .filter_map(|_| patience.pause_after(&away(false), Repeat::Freely))
            .collect();
        assert_eq!(pauses.len(), 6);
        assert!(pauses[5] > pauses[0] * 4, "{pauses:?}");
    }
}
