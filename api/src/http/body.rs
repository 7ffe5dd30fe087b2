//! Reading request bodies within limits of time, and of bytes on the way.

use std::{error::Error, io, iter::successors};

use actix_web::http::StatusCode;
use futures_util::{Stream, StreamExt};
use jobs::ProblemCode;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::{body_budget::BodyShare, error::ApiError};
use crate::config::Limits;

/// The limits of one request body: the longest pause, the longest time in all, and its share of all bytes on the way.
#[derive(Debug)]
pub(crate) struct BodyClock {
    pause_max: Duration,
    deadline: Instant,
    /// Counts the bytes; `None` for a body that is small by its own limit.
    share: Option<BodyShare>,
}

impl BodyClock {
    /// Starts the clock for the body of any request but a batch.
    pub fn start(limits: &Limits) -> Self {
        Self::with_total(limits, limits.body_timeout_ms)
    }

    /// Starts the clock for the body of a batch.
    pub fn start_batch(limits: &Limits) -> Self {
        Self::with_total(limits, limits.batch_body_timeout_ms)
    }

    fn with_total(limits: &Limits, total_ms: u64) -> Self {
        Self {
            pause_max: Duration::from_millis(limits.body_idle_timeout_ms),
            deadline: Instant::now() + Duration::from_millis(total_ms),
            share: None,
        }
    }

    /// Counts the bytes of the body. They count until the share is released or the clock is dropped.
    pub fn charging(mut self, share: BodyShare) -> Self {
        self.share = Some(share);
        self
    }

    /// Gives back the share of all bytes but these.
    pub fn keep_share(&self, bytes: u64) {
        if let Some(share) = &self.share {
            share.keep(bytes);
        }
    }

    /// Whether other requests wait for bytes that this one may hold.
    pub fn others_wait(&self) -> bool {
        self.share.as_ref().is_some_and(BodyShare::others_wait)
    }

    /// The share, which counts on without the clock.
    pub fn into_share(self) -> Option<BodyShare> {
        self.share
    }

    /// The next chunk of the body; `None` at its end.
    ///
    /// # Errors
    /// `invalid_request`: 400 if the connection broke off, 408 if a time limit is passed or the body comes below the least rate.
    /// `rate_limited` or `queue_full`: too many bytes are on the way.
    pub async fn next<B: AsRef<[u8]>, E: Error + 'static>(
        &self,
        stream: &mut (impl Stream<Item = Result<B, E>> + Unpin),
    ) -> Result<Option<B>, ApiError> {
        let next = timeout_at(self.deadline, timeout(self.pause_max, stream.next())).await;
        let chunk = match next {
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(Ok(chunk)))) => chunk,
            Ok(Ok(Some(Err(error)))) if is_timeout(&error) => return Err(too_slow()),
            Ok(Ok(Some(Err(error)))) => {
                return Err(ApiError::new(
                    ProblemCode::InvalidRequest,
                    format!("the request body broke off: {error}"),
                ));
            }
            Err(_) | Ok(Err(_)) => return Err(too_slow()),
        };
        if let Some(share) = &self.share {
            share.arrived(chunk.as_ref().len()).await?;
        }
        Ok(Some(chunk))
    }

    /// Reads a whole body of at most `bytes_max` bytes; fails with `too_long` past them.
    pub async fn read_all<B: AsRef<[u8]>, E: Error + 'static>(
        &self,
        stream: &mut (impl Stream<Item = Result<B, E>> + Unpin),
        bytes_max: usize,
        too_long: impl FnOnce() -> ApiError,
    ) -> Result<Vec<u8>, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next(stream).await? {
            let chunk = chunk.as_ref();
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_long());
            }
            bytes.extend_from_slice(chunk);
        }
        Ok(bytes)
    }
}

fn too_slow() -> ApiError {
    let detail = "the request body came too slowly";
    ApiError::new(ProblemCode::InvalidRequest, detail).with_status(StatusCode::REQUEST_TIMEOUT)
}

/// Whether a body ended because its client was too slow. Actix wraps the error.
fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error| (*error).source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use actix_web::error::PayloadError;

    use super::is_timeout;

    #[test]
    fn a_body_below_the_least_rate_is_told_from_one_that_broke_off() {
        let wrapped = |kind: io::ErrorKind| PayloadError::Io(kind.into());
        assert!(is_timeout(&wrapped(io::ErrorKind::TimedOut)));
        assert!(!is_timeout(&wrapped(io::ErrorKind::ConnectionReset)));
    }
}
