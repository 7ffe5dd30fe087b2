//! Injects faults into responses, as the file `faults.json` in the folder of the objects says. Every request reads the file.
//!
//! For tests of clients. Without the file there are no faults. Stored objects never change: only responses are wrong.

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

/// Probability of each fault, from 0 to 1.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FaultRates {
    /// Seed and number of a request decide about its faults.
    seed: u64,
    /// Answers 500 and does nothing else.
    error: f64,
    /// Pauses for `slow_ms` before the response.
    slow: f64,
    slow_ms: u64,
    /// Ends the body of a download half-way.
    cut: f64,
    /// Changes one byte of a download.
    wrong_bytes: f64,
}

/// The faults of one server.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    file: Arc<PathBuf>,
    requests: Arc<AtomicU64>,
}

/// The fault of the body of one download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    None,
    Cut,
    WrongByte,
}

impl Faults {
    pub(crate) fn beside(data: &Path) -> Self {
        Self {
            file: Arc::new(data.join(FILE)),
            requests: Arc::default(),
        }
    }

    /// Pauses or fails as the file says. Returns the fault of the body, for a download.
    pub(crate) async fn inject(&self) -> S3Result<BodyFault> {
        // A file that is only half written counts as missing.
        let text = std::fs::read(&*self.file).ok();
        let Some(rates) = text.and_then(|text| serde_json::from_slice::<FaultRates>(&text).ok())
        else {
            return Ok(BodyFault::None);
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut dice = StdRng::seed_from_u64(rates.seed.wrapping_add(number));
        if dice.random_bool(rates.slow.clamp(0.0, 1.0)) {
            tokio::time::sleep(Duration::from_millis(rates.slow_ms)).await;
        }
        if dice.random_bool(rates.error.clamp(0.0, 1.0)) {
            return Err(s3_error!(InternalError, "as faults.json asks"));
        }
        Ok(if dice.random_bool(rates.cut.clamp(0.0, 1.0)) {
            BodyFault::Cut
        } else if dice.random_bool(rates.wrong_bytes.clamp(0.0, 1.0)) {
            BodyFault::WrongByte
        } else {
            BodyFault::None
        })
    }
}

impl BodyFault {
    /// Returns the body that the client gets.
    pub(crate) fn apply(self, body: StreamingBlob) -> StreamingBlob {
        match self {
            Self::None => body,
            Self::WrongByte => StreamingBlob::wrap(body.enumerate().map(|(index, chunk)| {
                let chunk = chunk.map_err(std::io::Error::other);
                chunk.map(|chunk| {
                    if index == 0 {
                        with_wrong_byte(&chunk)
                    } else {
                        chunk
                    }
                })
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

fn with_wrong_byte(chunk: &Bytes) -> Bytes {
    let mut bytes = chunk.to_vec();
    if let Some(byte) = bytes.get_mut(chunk.len() / 2) {
        *byte ^= 0x55;
    }
    bytes.into()
}
