//! The body of a request, shared by its handler and by the response: what the handler leaves is read by the response.
//!
//! Actix stops reading a chunked body once its handler is done. Then the client, which still sends, never reads the response,
//! and its connection is never closed.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    error::PayloadError,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::config::ConnectionConfig;

/// Longest pause within the rest of a refused body. Then its client is taken to have stopped, or to be gone.
const REST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The body of one request. Clones read from one stream.
#[derive(Clone)]
pub(crate) struct RequestBody(Rc<RefCell<Receiving>>);

struct Receiving {
    payload: Payload,
    has_ended: bool,
    rate: LeastRate,
}

impl RequestBody {
    /// Takes the body of a request, and leaves a clone for its handler; `None` if the request has no body.
    pub fn share(request: &mut ServiceRequest, config: &ConnectionConfig) -> Option<Self> {
        let payload = match request.take_payload() {
            Payload::None => return None,
            payload => payload,
        };
        let shared = Self(Rc::new(RefCell::new(Receiving {
            payload,
            has_ended: false,
            rate: LeastRate::new(config),
        })));
        request.set_payload(Payload::Stream {
            payload: Box::pin(shared.clone()),
        });
        Some(shared)
    }

    /// Whether the body was read to its end, or broke off.
    pub fn has_ended(&self) -> bool {
        self.0.borrow().has_ended
    }

    /// Reads and drops the rest of the body, up to a number of bytes and for a limited time.
    pub async fn drain(mut self, config: ConnectionConfig) {
        let mut left = config.refused_body_bytes_max;
        let drained = async {
            while let Ok(Some(Ok(chunk))) = timeout(REST_PAUSE_MAX, self.next()).await {
                let Some(less) = left.checked_sub(chunk.len() as u64) else {
                    break;
                };
                left = less;
            }
        };
        let time_max = Duration::from_millis(config.refused_body_timeout_ms);
        drop(timeout(time_max, drained).await);
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let receiving = &mut *self.0.borrow_mut();
        if receiving.has_ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut receiving.payload).poll_next(context);
        match &polled {
            Poll::Pending => receiving.rate.wait(Instant::now()),
            Poll::Ready(Some(Ok(chunk))) => {
                if !receiving.rate.receive(chunk.len(), Instant::now()) {
                    receiving.has_ended = true;
                    let error = io::Error::new(
                        io::ErrorKind::TimedOut,
                        "slower than the least rate of a body",
                    );
                    return Poll::Ready(Some(Err(PayloadError::Io(error))));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => receiving.has_ended = true,
        }
        polled
    }
}

/// The average rate at which a client sends. Only the time that this process waits for the client counts.
#[derive(Debug)]
struct LeastRate {
    /// 0: no limit.
    bytes_per_second_min: f64,
    /// How long the client may keep this process waiting in any case.
    grace: Duration,
    bytes: u64,
    waited: Duration,
    waits_since: Option<Instant>,
}

impl LeastRate {
    fn new(config: &ConnectionConfig) -> Self {
        Self {
            bytes_per_second_min: config.body_bytes_per_second_min.into(),
            grace: Duration::from_millis(config.body_rate_after_ms),
            bytes: 0,
            waited: Duration::ZERO,
            waits_since: None,
        }
    }

    /// Notes that nothing has come yet.
    fn wait(&mut self, now: Instant) {
        self.waits_since.get_or_insert(now);
    }

    /// Notes that bytes have come. Returns whether the client is fast enough.
    fn receive(&mut self, bytes: usize, now: Instant) -> bool {
        if let Some(since) = self.waits_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
        self.bytes += bytes as u64;
        if self.bytes_per_second_min == 0.0 || self.waited <= self.grace {
            return true;
        }
        let late = self.waited.saturating_sub(self.grace).as_secs_f64();
        late <= self.bytes as f64 / self.bytes_per_second_min
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::LeastRate;

    fn rate(bytes_per_second_min: f64) -> LeastRate {
        LeastRate {
            bytes_per_second_min,
            grace: Duration::from_secs(20),
            bytes: 0,
            waited: Duration::ZERO,
            waits_since: None,
        }
    }

    /// For how many seconds a client may send this many bytes a second; up to 1,000.
    fn seconds_allowed(mut rate: LeastRate, bytes_per_second: usize) -> usize {
        let start = Instant::now();
        let at = |second: usize| start + Duration::from_secs(second as u64);
        let mut is_allowed = |second: usize| {
            rate.wait(at(second));
            rate.receive(bytes_per_second, at(second + 1))
        };
        (0..1000).take_while(|second| is_allowed(*second)).count()
    }

    #[test]
    fn a_client_below_the_least_rate_is_cut_off_after_the_grace() {
        assert_eq!(seconds_allowed(rate(500.0), 1), 20);
        // 20 s, and a second more for each 500 bytes.
        assert_eq!(seconds_allowed(rate(500.0), 250), 40);
        assert_eq!(seconds_allowed(rate(500.0), 500), 1000);
        assert_eq!(seconds_allowed(rate(0.0), 1), 1000, "no limit");
    }

    #[test]
    fn the_time_in_which_this_process_does_not_read_is_free() {
        let (mut rate, start) = (rate(500.0), Instant::now());
        assert!(rate.receive(1, start));
        assert!(rate.receive(1, start + Duration::from_hours(1)));
        rate.wait(start + Duration::from_hours(1));
        assert!(rate.receive(1, start + Duration::from_hours(1) + Duration::from_secs(19)));
    }
}
