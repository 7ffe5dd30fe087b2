//! What goes with every request: an id, a trace, a log line, a measurement. One wrapper around all routes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::{
    HttpMessage,
    body::{BodySize, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use bytes::Bytes;
use jobs::Problem;
use uuid::Uuid;

use crate::rate::Allowance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// 2, 32, 16 and 2 hex digits, with hyphens between.
const TRACE_PARENT_CHARS: usize = 55;

/// What a refusal says about the request that it refuses.
#[derive(Debug, Clone)]
struct About {
    request_id: String,
    path: String,
    trace_id: String,
}

tokio::task_local! { static ABOUT: About; }

/// Fills in the request's id, path and trace.
pub(crate) fn describe(problem: &mut Problem) {
    let about = ABOUT.try_with(Clone::clone).ok();
    if let Some(About {
        request_id,
        path,
        trace_id,
    }) = about
    {
        problem.request_id = Some(request_id);
        problem.instance = Some(path);
        problem.trace_id = Some(trace_id);
    }
}

/// The W3C trace context of the request: the caller's, or a new one.
pub(crate) fn trace_parent(request: &actix_web::HttpRequest) -> String {
    request
        .headers()
        .get("traceparent")
        .and_then(|value| understood(value.to_str().ok()?))
        .map_or_else(
            || {
                format!(
                    "00-{}-{:016x}-01",
                    Uuid::new_v4().simple(),
                    rand::random::<u64>() | 1
                )
            },
            str::to_owned,
        )
}

/// The trace id inside a `traceparent`, if it is one.
pub(crate) fn trace_id(trace_parent: &str) -> Option<&str> {
    understood(trace_parent)?.split('-').nth(1)
}

/// Version, trace, span and flags, if it is a `traceparent` of W3C Trace Context: what later versions add is left out.
fn understood(trace_parent: &str) -> Option<&str> {
    let (known, added) = trace_parent.split_at_checked(TRACE_PARENT_CHARS)?;
    let mut parts = known.split('-');
    let mut hex = |length: usize| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let part = parts.next()?;
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
    let may_add = version != "00" && added.starts_with('-');
    let fits = version != "ff" && !is_zero(trace) && !is_zero(span);
    (fits && (added.is_empty() || may_add)).then_some(known)
}

/// Wraps every route: id in and out, one log line, one measurement.
pub(crate) async fn wrap(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let request_id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_plain(id))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let trace_parent = trace_parent(request.request());
    let value = HeaderValue::from_str(&trace_parent).expect("hex and hyphens");
    // Actix hands out maps with room for 28 names, 6.5 KiB, and a waiter keeps his for as long as he waits.
    let mut headers: HeaderMap = std::mem::take(request.headers_mut()).into_iter().collect();
    headers.insert(HeaderName::from_static("traceparent"), value);
    let method = request.method().clone();
    if method == Method::HEAD {
        // As GET is answered, but nothing is waited for.
        request.head_mut().method = Method::GET;
        headers.remove(HeaderName::from_static("prefer"));
        headers.remove(header::ACCEPT);
    }
    *request.headers_mut() = headers;
    let about = About {
        request_id: request_id.clone(),
        path: request.path().to_owned(),
        trace_id: trace_id(&trace_parent).unwrap_or_default().to_owned(),
    };
    let mut response = ABOUT.scope(about.clone(), next.call(request)).await?;

    let elapsed = started.elapsed();
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "none".into());
    let status = response.status().as_u16();
    metrics::histogram!("darkroom_http_seconds", "method" => method.to_string(), "route" => route.clone(),
        "status" => status.to_string())
    .record(elapsed.as_secs_f64());
    tracing::info!(
        http.method = %method, http.route = route, http.status = status, request.id = request_id,
        trace.id = about.trace_id, elapsed_ms = elapsed.as_secs_f64() * 1e3, "request"
    );
    let allowance = response.request().extensions().get::<Allowance>().copied();
    let headers = response.headers_mut();
    for (name, value) in allowance.into_iter().flat_map(Allowance::headers) {
        let value = HeaderValue::from_str(&value).expect("digits and signs");
        headers.insert(HeaderName::from_static(name), value);
    }
    headers.insert(
        REQUEST_ID,
        HeaderValue::from_str(&request_id).expect("checked or ours"),
    );
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    Ok(match method {
        Method::HEAD => response.map_body(|_, body| EitherBody::right(Unsent(body.size()))),
        _ => response.map_into_left_body(),
    })
}

/// What HEAD tells of a body. Actix would leave its bytes out, but make them all.
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{trace_id, trace_parent, understood};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_a_real_traceparent_is_taken() {
        assert_eq!(understood(GOOD), Some(GOOD));
        assert_eq!(trace_id(GOOD), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00-4bf9-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-001",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        ] {
            assert_eq!(understood(bad), None, "{bad}");
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_later_version_adds_is_left_out() {
        let later = GOOD.replacen("00", "cc", 1);
        for added in ["", "-", "-what-the"] {
            let sent = format!("{later}{added}");
            assert_eq!(understood(&sent), Some(&*later), "{sent}");
        }
    }

    #[test]
    fn a_request_without_a_real_traceparent_gets_a_new_one() {
        let sent = |value: &str| {
            let request = TestRequest::default().insert_header(("traceparent", value));
            trace_parent(&request.to_http_request())
        };
        assert_eq!(sent(GOOD), GOOD);
        let made = sent(&format!("{GOOD}-more"));
        assert_eq!(understood(&made), Some(&*made));
        assert_ne!(trace_id(&made), trace_id(GOOD));
    }
}
