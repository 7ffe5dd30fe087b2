//! Whether and when to send a request again.

use std::time::Duration;

use backon::ExponentialBuilder;
use tokio::time::Instant;

use super::CallError;

/// Pauses of 0.2 s and more, doubled up to 5 s, with jitter; the caller ends them.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
}

/// What a repeated request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nothing more: two requests have the effect of one.
    IsHarmless,
    /// Something more: only a request that certainly did nothing is sent again.
    HasEffects,
}

/// Whether to send the request again after this error.
pub(super) fn may_retry(error: &CallError, repeat: Repeat) -> bool {
    let is_harmless = repeat == Repeat::IsHarmless;
    match error {
        CallError::Away {
            may_have_arrived, ..
        } => is_harmless || !may_have_arrived,
        CallError::Refused(refusal) => match refusal.status {
            429 | 503 => true,
            502 | 504 => is_harmless,
            409 => refusal.is_in_flight(),
            _ => false,
        },
        CallError::Unreadable(_) => false,
    }
}

/// The pause before the next try; `None` if it would end after `until`.
///
/// At least as long as `Retry-After` asks for. `own` has jitter: many clients must not return at the same moment.
pub(super) fn pause(error: &CallError, own: Duration, until: Instant) -> Option<Duration> {
    let asked = match error {
        CallError::Refused(refusal) => refusal.retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let pause = if asked.is_zero() {
        own
    } else {
        // The remainder has jitter too, where `own` is the longer one.
        asked + Duration::from_secs_f64(own.as_secs_f64() % asked.as_secs_f64())
    };
    (Instant::now() + pause <= until).then_some(pause)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use backon::BackoffBuilder;
    use tokio::time::Instant;

    use super::{Repeat, may_retry, pause, pauses};
    use crate::service::{CallError, Refusal};

    fn refused(status: u16, retry_after: Option<Duration>) -> CallError {
        CallError::Refused(Refusal::new("http://darkroom", status, retry_after, "{}"))
    }

    fn away(may_have_arrived: bool) -> CallError {
        CallError::Away {
            what: "gone".into(),
            may_have_arrived,
        }
    }

    #[test]
    fn a_request_that_may_have_had_effects_is_not_repeated() {
        assert!(may_retry(&away(true), Repeat::IsHarmless));
        assert!(!may_retry(&away(true), Repeat::HasEffects));
        assert!(may_retry(&away(false), Repeat::HasEffects));
        assert!(!may_retry(&refused(504, None), Repeat::HasEffects));
        for status in [429, 503] {
            assert!(may_retry(&refused(status, None), Repeat::HasEffects));
        }
        for status in [400, 401, 404, 409, 413, 422, 500] {
            let error = refused(status, None);
            assert!(!may_retry(&error, Repeat::IsHarmless), "{status}");
        }
    }

    #[test]
    fn a_pause_is_no_shorter_than_asked_and_ends_in_time() {
        let (asked, own) = (Duration::from_secs(3), Duration::from_millis(300));
        let error = refused(429, Some(asked));
        let minute = Instant::now() + Duration::from_mins(1);
        let next = pause(&error, own, minute);
        assert!(next.is_some_and(|pause| (asked..asked * 2).contains(&pause)));
        let second = Instant::now() + Duration::from_secs(1);
        assert_eq!(pause(&error, own, second), None);
        assert_eq!(pause(&away(false), own, second), Some(own));
    }

    #[test]
    fn pauses_grow() {
        let pauses: Vec<_> = pauses().build().take(6).collect();
        assert_eq!(pauses.len(), 6);
        assert!(pauses[5] > pauses[0] * 4, "{pauses:?}");
    }
}
