//! Exponential backoff.

use std::time::Duration;

/// The delays between the tries of a loop: each is twice as long as the one before, up to a limit.
///
/// Not from the crate `backon`: the loops of the worker also wait for a shutdown signal or for the end of a lease, so
/// they need the delays and not a function that is called again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Goes on from here up to another limit.
    #[must_use]
    pub fn limited_to(self, longest: Duration) -> Self {
        let next = self.next.min(longest);
        Self {
            longest,
            next,
            ..self
        }
    }

    /// The next delay, without jitter.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.longest);
        delay
    }

    /// Sleeps for the next delay, with jitter.
    pub async fn sleep(&mut self) {
        tokio::time::sleep(with_jitter(self.next_delay())).await;
    }

    /// Starts again with the first delay.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between 75 % and 125 % of `delay`, so that workers that were woken together do not stay together.
pub fn with_jitter(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn delays_double_up_to_the_limit_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(10));
        let mut seconds = |tries| -> Vec<u64> {
            let delays = (0..tries).map(|_| backoff.next_delay().as_secs());
            delays.collect()
        };
        assert_eq!(seconds(5), [2, 4, 8, 10, 10]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_secs(), 2);
    }

    #[test]
    fn delays_go_on_up_to_another_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(10));
        backoff.next_delay();
        let mut longer = backoff.limited_to(Duration::from_mins(1));
        let delays = [(); 4].map(|()| longer.next_delay().as_secs());
        assert_eq!(delays, [10, 20, 40, 60]);
        let mut shorter = longer.limited_to(Duration::from_secs(10));
        assert_eq!(shorter.next_delay(), Duration::from_secs(10));
    }
}
