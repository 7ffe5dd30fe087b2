//! Trouble on request: what a file `faults.json` beside the objects asks for, from its next reading on. No file, no trouble.
//!
//! For tests of what clients make of a store that errs. What was stored is never touched: only answers are wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use s3s::dto::StreamingBlob;
use s3s::{S3Result, s3_error};
use serde::Deserialize;

/// Name of the file, in the folder of the objects.
const FILE: &str = "faults.json";

/// How likely each trouble is, from 0 to 1.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    /// Decides, with the number of the request, what happens to it.
    seed: u64,
    /// Answers 500 instead of doing what was asked.
    error: f64,
    /// Pauses before it answers.
    slow: f64,
    slow_ms: u64,
    /// Ends the body of a download half-way.
    cut: f64,
    /// Changes one byte of a download.
    wrong_bytes: f64,
}

/// The troubles of one server.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    file: Arc<PathBuf>,
    requests: Arc<AtomicU64>,
}

/// What happens to the body of one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Whole,
    Cut,
    Wrong,
}

impl Faults {
    pub(crate) fn beside(data: &Path) -> Self {
        Self {
            file: Arc::new(data.join(FILE)),
            requests: Arc::default(),
        }
    }

    /// Pauses, refuses, or says what becomes of the body.
    pub(crate) async fn strike(&self) -> S3Result<Body> {
        // A file that is being written reads as no file.
        let text = std::fs::read(&*self.file).ok();
        let Some(wanted) = text.and_then(|text| serde_json::from_slice::<Wanted>(&text).ok())
        else {
            return Ok(Body::Whole);
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut dice = StdRng::seed_from_u64(wanted.seed.wrapping_add(number));
        if dice.random_bool(wanted.slow.clamp(0.0, 1.0)) {
            tokio::time::sleep(Duration::from_millis(wanted.slow_ms)).await;
        }
        if dice.random_bool(wanted.error.clamp(0.0, 1.0)) {
            return Err(s3_error!(InternalError, "as faults.json asks"));
        }
        Ok(if dice.random_bool(wanted.cut.clamp(0.0, 1.0)) {
            Body::Cut
        } else if dice.random_bool(wanted.wrong_bytes.clamp(0.0, 1.0)) {
            Body::Wrong
        } else {
            Body::Whole
        })
    }
}

impl Body {
    /// The body as the client gets it.
    pub(crate) fn of(self, body: StreamingBlob) -> StreamingBlob {
        match self {
            Self::Whole => body,
            Self::Wrong => StreamingBlob::wrap(body.enumerate().map(|(index, chunk)| {
                let chunk = chunk.map_err(std::io::Error::other);
                chunk.map(|chunk| if index == 0 { bent(&chunk) } else { chunk })
            })),
            Self::Cut => StreamingBlob::wrap(body.flat_map(|chunk| {
                let half = chunk.map(|chunk| chunk.slice(..chunk.len() / 2));
                let half = half.map_err(std::io::Error::other);
                let end = Err(std::io::Error::other("cut, as faults.json asks"));
                stream::iter([half, end])
            })),
        }
    }
}

fn bent(chunk: &Bytes) -> Bytes {
    let mut bytes = chunk.to_vec();
    if let Some(byte) = bytes.get_mut(chunk.len() / 2) {
        *byte ^= 0x55;
    }
    bytes.into()
}
