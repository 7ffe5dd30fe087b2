use std::time::Duration;

/// Pauses between attempts, in seconds: about a day in all.
const PAUSES_SECONDS: [u32; 10] = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 25_200, 36_000];
/// Share by which a pause varies, so that deliveries that failed together are not all retried together.
const JITTER: f64 = 0.2;
/// The longest pause that a receiver can ask for.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// How long to wait after a failed attempt, when `tries` attempts failed before it; `None` after the last one.
pub(super) fn pause(tries: i16, retry_after: Option<Duration>) -> Option<Duration> {
    let seconds = *PAUSES_SECONDS.get(usize::try_from(tries).ok()?)?;
    let jitter = rand::random_range(1.0 - JITTER..=1.0 + JITTER);
    let pause = Duration::from_secs_f64(f64::from(seconds) * jitter);
    Some(pause.max(retry_after.unwrap_or_default()).min(PAUSE_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PAUSE_MAX, pause};

    #[test]
    fn a_delivery_is_tried_for_about_a_day() {
        let pauses: Vec<_> = (0..).map_while(|tries| pause(tries, None)).collect();
        assert_eq!(pauses.len(), 10);
        let hours = pauses.iter().sum::<Duration>().as_secs_f64() / 3600.0;
        assert!((19.0..30.0).contains(&hours), "{hours}");
        assert!(pauses.is_sorted());
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_within_reason() {
        let minute = Duration::from_mins(1);
        assert_eq!(pause(0, Some(minute)), Some(minute));
        assert!(
            pause(5, Some(minute)) > Some(minute),
            "not for a shorter one"
        );
        let month = Duration::from_hours(24 * 30);
        assert_eq!(pause(0, Some(month)), Some(PAUSE_MAX));
        assert_eq!(pause(10, Some(minute)), None);
    }
}
