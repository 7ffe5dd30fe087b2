//! The request rate of one key: a token bucket in the memory of this process.

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use actix_web::http::header::{HeaderName, HeaderValue};

use crate::http::request::ResponseHeaders;

/// Holds up to `burst` tokens, gains `per_second` of them, and spends one for each request. Each process has its own.
#[derive(Debug)]
pub(crate) struct TokenBucket {
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

/// What is left to a key after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub burst: u64,
    /// How long an empty bucket takes to fill.
    pub window_seconds: u64,
    pub remaining: u64,
    /// How long this bucket takes to fill.
    pub reset_seconds: u64,
    /// How long until the next request passes; `None` if this one passed.
    pub wait_seconds: Option<u32>,
}

impl TokenBucket {
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

    /// Whether the bucket has this rate and burst.
    pub fn has_limits(&self, per_second: f64, burst: i32) -> bool {
        (self.per_second, self.burst) == (per_second, f64::from(burst))
    }

    /// Takes one token, if there is one; `None` without a limit.
    pub fn take(&self, now: Instant) -> Option<Allowance> {
        if self.per_second == 0.0 {
            return None;
        }
        let mut level = self.refilled(now);
        let has_passed = level.tokens >= 1.0;
        if has_passed {
            level.tokens -= 1.0;
        }
        let until = |tokens: f64| self.seconds_until(tokens, &level);
        Some(Allowance {
            burst: self.burst as u64,
            window_seconds: (self.burst / self.per_second).ceil() as u64,
            remaining: level.tokens as u64,
            reset_seconds: until(self.burst) as u64,
            wait_seconds: (!has_passed).then(|| until(1.0).max(1.0) as u32),
        })
    }

    /// How long until there is a token; `None` if there is one, or no limit. Takes nothing.
    pub fn wait_seconds(&self, now: Instant) -> Option<u32> {
        if self.per_second == 0.0 {
            return None;
        }
        let level = self.refilled(now);
        (level.tokens < 1.0).then(|| self.seconds_until(1.0, &level).max(1.0) as u32)
    }

    fn refilled(&self, now: Instant) -> MutexGuard<'_, Level> {
        let mut level = self.level.lock().expect("no panic holds it");
        let passed = now.saturating_duration_since(level.at);
        level.tokens = (level.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        level.at = level.at.max(now);
        level
    }

    fn seconds_until(&self, tokens: f64, level: &Level) -> f64 {
        ((tokens - level.tokens).max(0.0) / self.per_second).ceil()
    }
}

impl Allowance {
    /// The headers `RateLimit-Policy` and `RateLimit` of the IETF draft `httpapi-ratelimit-headers`.
    pub fn headers(self) -> ResponseHeaders {
        let Self {
            burst,
            window_seconds,
            remaining,
            reset_seconds,
            ..
        } = self;
        let header = |name, value: String| {
            let value = HeaderValue::from_str(&value).expect("digits and signs");
            (HeaderName::from_static(name), value)
        };
        ResponseHeaders([
            header(
                "ratelimit-policy",
                format!("\"requests\";q={burst};w={window_seconds}"),
            ),
            header(
                "ratelimit",
                format!("\"requests\";r={remaining};t={reset_seconds}"),
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::TokenBucket;

    #[test]
    fn a_burst_goes_through_at_once_and_then_one_for_each_token() {
        let (bucket, start) = (TokenBucket::new(2.0, 3), Instant::now());
        let take = |after: Duration| bucket.take(start + after).expect("a limit");
        let left: Vec<_> = (0..3).map(|_| take(Duration::ZERO).remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = take(Duration::ZERO);
        assert_eq!((refused.wait_seconds, refused.reset_seconds), (Some(1), 2));
        assert_eq!(take(Duration::from_millis(500)).wait_seconds, None);
        assert_eq!(take(Duration::from_millis(600)).wait_seconds, Some(1));
        let full = take(Duration::from_mins(1));
        assert_eq!(full.remaining, 2, "no more than a burst is saved");
    }

    #[test]
    fn a_slow_key_is_told_how_long_to_wait() {
        let (bucket, now) = (TokenBucket::new(0.1, 1), Instant::now());
        bucket.take(now);
        let refused = bucket.take(now).expect("a limit");
        assert_eq!(refused.wait_seconds, Some(10));
        assert_eq!(
            refused.headers().0.map(|(_, value)| value),
            ["\"requests\";q=1;w=10", "\"requests\";r=0;t=10"]
        );
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let bucket = TokenBucket::new(0.0, 1);
        assert_eq!(bucket.take(Instant::now()), None);
    }
}
