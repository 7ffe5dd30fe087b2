//! A pause in claiming while what every job needs (S3, the model registry) is away: giving jobs back costs nothing, so
//! without it the worker would claim and release in a circle.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lease::jitter;

const LEAST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Pause {
    length: Duration,
    until: Instant,
}

#[derive(Debug, Default)]
pub struct BackOff(Mutex<Option<Pause>>);

impl BackOff {
    /// Something was away, and why. Many jobs that find it away at once lengthen the pause once, and are logged once.
    pub fn trouble(&self, cause: &str) {
        let now = Instant::now();
        let mut pause = self.0.lock().expect("no panic while it is held");
        if pause.is_none_or(|pause| pause.until <= now) {
            let length = pause.map_or(LEAST, |pause| (pause.length * 2).min(MOST));
            let until = now + jitter(length);
            *pause = Some(Pause { length, until });
            tracing::warn!(
                error.cause = cause,
                pause_ms = length.as_millis() as u64,
                "what jobs need is away: giving them back"
            );
        }
    }

    /// It is there again.
    pub fn no_trouble(&self) {
        *self.0.lock().expect("no panic while it is held") = None;
    }

    /// Whether it was away the last time that somebody looked.
    pub fn is_troubled(&self) -> bool {
        self.0.lock().expect("no panic while it is held").is_some()
    }

    /// Returns when the pause, if there is one, is over.
    pub async fn over(&self) {
        let pause = *self.0.lock().expect("no panic while it is held");
        if let Some(pause) = pause {
            tokio::time::sleep_until(pause.until.into()).await;
        }
    }
}
