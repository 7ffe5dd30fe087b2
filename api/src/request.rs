//! What goes with every request: an id, a trace, a log line, a measurement. One wrapper around all routes.

use std::time::Instant;

use actix_web::{
    HttpMessage,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use jobs::Problem;
use uuid::Uuid;

use crate::rate::Allowance;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
        .and_then(|value| value.to_str().ok())
        .filter(|value| trace_id(value).is_some())
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
    let mut parts = trace_parent.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let fits = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16);
    (fits && trace.bytes().any(|byte| byte != b'0')).then_some(trace)
}

/// Wraps every route: id in and out, one log line, one measurement.
pub(crate) async fn wrap(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
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
    *request.headers_mut() = headers;
    let about = About {
        request_id: request_id.clone(),
        path: request.path().to_owned(),
        trace_id: trace_id(&trace_parent).unwrap_or_default().to_owned(),
    };
    let method = request.method().clone();
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
    Ok(response)
}

fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    #[test]
    fn only_a_real_traceparent_is_taken() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace_id(good), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        for bad in [
            "",
            "00-4bf9-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
