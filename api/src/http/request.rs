//! The middleware around all routes: request id, trace, log line, metric, headers of every response.

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
    web::Data,
};
use bytes::Bytes;
use jobs::Problem;
use tokio_util::context::TokioContext;
use uuid::Uuid;

use super::{
    lingering::LingeringBody,
    request_body::RequestBody,
    trace::{trace_id, traceparent},
};
use crate::{ctx::Ctx, limits::open_requests::OpenRequest};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a problem says about its request.
#[derive(Debug, Clone)]
struct RequestInfo {
    request_id: String,
    path: String,
    trace_id: String,
}

tokio::task_local! { static REQUEST_INFO: RequestInfo; }

/// Headers of the response to this request, also of a refusal. Stored in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct ResponseHeaders(pub [(HeaderName, HeaderValue); 2]);

/// Fills in the id, path and trace of the current request.
pub(crate) fn add_request_info(problem: &mut Problem) {
    let info = REQUEST_INFO.try_with(Clone::clone).ok();
    if let Some(RequestInfo {
        request_id,
        path,
        trace_id,
    }) = info
    {
        problem.request_id = Some(request_id);
        problem.instance = Some(path);
        problem.trace_id = Some(trace_id);
    }
}

/// The name of a method in metrics and in the log. Callers can invent methods, of any length: all of these are `other`.
pub(crate) fn method_name(method: &Method) -> &'static str {
    const NAMES: [&str; 9] = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE",
    ];
    let name = NAMES.into_iter().find(|name| *name == method.as_str());
    name.unwrap_or("other")
}

/// Handles one request: takes or makes its id and trace, then writes one log line and one measurement.
pub(crate) async fn wrap(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let ctx = request.app_data::<Data<Ctx>>().expect("set in server.rs");
    let ctx = ctx.clone();
    let request_body = RequestBody::share(&mut request, &ctx.config.connections);
    let request_id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_plain(id))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let traceparent = traceparent(request.request());
    let value = HeaderValue::from_str(&traceparent).expect("hex and hyphens");
    // A new map: actix reserves 6.5 KiB for the headers of each request, and a waiting request keeps them.
    let mut headers: HeaderMap = std::mem::take(request.headers_mut()).into_iter().collect();
    headers.insert(HeaderName::from_static("traceparent"), value);
    let method = request.method().clone();
    if method == Method::HEAD {
        // HEAD is answered like GET, but never waits and never streams.
        request.head_mut().method = Method::GET;
        headers.remove(HeaderName::from_static("prefer"));
        headers.remove(header::ACCEPT);
    }
    *request.headers_mut() = headers;
    let info = RequestInfo {
        request_id: request_id.clone(),
        path: request.path().to_owned(),
        trace_id: trace_id(&traceparent).unwrap_or_default().to_owned(),
    };
    // A connection to Postgres or to the store belongs to the runtime in which it was opened. Opened in the runtime of this
    // thread, it would break for all threads when this one ends, as a thread without connections does at once on SIGTERM.
    let handled = REQUEST_INFO.scope(info.clone(), next.call(request));
    let mut response = TokioContext::new(handled, ctx.runtime.clone()).await?;

    let elapsed = started.elapsed();
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "none".into());
    let status = response.status().as_u16();
    let method_name = method_name(&method);
    metrics::histogram!("darkroom_http_seconds", "method" => method_name, "route" => route.clone(),
        "status" => status.to_string())
    .record(elapsed.as_secs_f64());
    tracing::info!(
        http.method = method_name,
        http.route = route,
        http.status = status,
        request.id = request_id,
        trace.id = info.trace_id,
        elapsed_ms = elapsed.as_secs_f64() * 1e3,
        "request"
    );
    let added = response
        .request()
        .extensions()
        .get::<ResponseHeaders>()
        .cloned();
    let headers = response.headers_mut();
    if let Some(ResponseHeaders(added)) = added {
        for (name, value) in added {
            headers.insert(name, value);
        }
    }
    headers.insert(
        REQUEST_ID,
        HeaderValue::from_str(&request_id).expect("checked or ours"),
    );
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    let open = response.request().extensions_mut().remove::<OpenRequest>();
    let response = match method {
        Method::HEAD => response.map_body(|_, body| EitherBody::right(OmittedBody(body.size()))),
        _ => response.map_into_left_body(),
    };
    Ok(response.map_body(|_, body| LingeringBody::new(body, request_body, open, &ctx)))
}

/// The size of a body without the body, for HEAD. Actix would produce the bytes and drop them.
struct OmittedBody(BodySize);

impl MessageBody for OmittedBody {
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
    use actix_web::http::Method;

    use super::method_name;

    #[test]
    fn a_method_that_a_caller_invents_has_the_name_other() {
        for known in ["GET", "DELETE", "TRACE"] {
            let method = Method::from_bytes(known.as_bytes()).expect("a method");
            assert_eq!(method_name(&method), known);
        }
        for invented in ["get", "BREW", &"M".repeat(60_000)] {
            let method = Method::from_bytes(invented.as_bytes()).expect("a method");
            assert_eq!(method_name(&method), "other");
        }
    }
}
