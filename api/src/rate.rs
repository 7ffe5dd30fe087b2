//! Requests a second of one key: a token bucket in the memory of this process.

use std::{sync::Mutex, time::Instant};

/// Holds up to `burst` tokens, gains `per_second`, and gives one to each request. Processes do not share it.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// 0: no limit.
    per_second: f64,
    burst: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

/// How a key stands after a request: what the `RateLimit` headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub burst: u64,
    /// An empty bucket is full again after so long.
    pub window_seconds: u64,
    pub remaining: u64,
    /// This bucket is full again after so long.
    pub reset_seconds: u64,
    /// Refused: the next request is let through after so long.
    pub wait_seconds: Option<u32>,
}

impl Bucket {
    pub fn new(per_second: f64, burst: i32) -> Self {
        let burst = f64::from(burst);
        let full = Level {
            tokens: burst,
            at: Instant::now(),
        };
        Self {
            per_second,
            burst,
            level: Mutex::new(full),
        }
    }

    /// Whether it is by the same rule.
    pub fn is(&self, per_second: f64, burst: i32) -> bool {
        (self.per_second, self.burst) == (per_second, f64::from(burst))
    }

    /// Takes one token, if there is one; `None`: there is no limit.
    pub fn take(&self, now: Instant) -> Option<Allowance> {
        if self.per_second == 0.0 {
            return None;
        }
        let mut level = self.level.lock().expect("no panic holds it");
        let passed = now.saturating_duration_since(level.at);
        level.tokens = (level.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        level.at = level.at.max(now);
        let let_through = level.tokens >= 1.0;
        if let_through {
            level.tokens -= 1.0;
        }
        let until = |tokens: f64| ((tokens - level.tokens).max(0.0) / self.per_second).ceil();
        Some(Allowance {
            burst: self.burst as u64,
            window_seconds: (self.burst / self.per_second).ceil() as u64,
            remaining: level.tokens as u64,
            reset_seconds: until(self.burst) as u64,
            wait_seconds: (!let_through).then(|| until(1.0).max(1.0) as u32),
        })
    }
}

impl Allowance {
    /// Draft `httpapi-ratelimit-headers`: name and value of both headers.
    pub fn headers(self) -> [(&'static str, String); 2] {
        let Self {
            burst,
            window_seconds,
            remaining,
            reset_seconds,
            ..
        } = self;
        [
            (
                "ratelimit-policy",
                format!("\"requests\";q={burst};w={window_seconds}"),
            ),
            (
                "ratelimit",
                format!("\"requests\";r={remaining};t={reset_seconds}"),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Bucket;

    #[test]
    fn a_burst_goes_through_at_once_and_then_one_for_each_token() {
        let (bucket, start) = (Bucket::new(2.0, 3), Instant::now());
        let take = |after: Duration| bucket.take(start + after).expect("a limit");
        let left: Vec<_> = (0..3).map(|_| take(Duration::ZERO).remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = take(Duration::ZERO);
        assert_eq!((refused.wait_seconds, refused.reset_seconds), (Some(1), 2));
        assert_eq!(take(Duration::from_millis(500)).wait_seconds, None);
        assert_eq!(take(Duration::from_millis(600)).wait_seconds, Some(1));
        let rested = take(Duration::from_mins(1));
        assert_eq!(rested.remaining, 2, "no more than a burst is saved");
    }

    #[test]
    fn a_slow_key_is_told_how_long_to_wait() {
        let (bucket, now) = (Bucket::new(0.1, 1), Instant::now());
        bucket.take(now);
        let refused = bucket.take(now).expect("a limit");
        assert_eq!(refused.wait_seconds, Some(10));
        assert_eq!(
            refused.headers().map(|(_, value)| value),
            ["\"requests\";q=1;w=10", "\"requests\";r=0;t=10"]
        );
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let bucket = Bucket::new(0.0, 1);
        assert_eq!(bucket.take(Instant::now()), None);
    }
}
