//! Requests to the metadata service of the cloud: one connection for each, bounded in time and size.
//!
//! Without proxy, TLS and redirects: the service is on this machine.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri, client::conn::http1, header::DATE, header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// Most bytes of a response. The documents of these services are much shorter.
const BODY_BYTES_MAX: usize = 64 << 10;

/// `--metadata-url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host and port to connect to.
    address: String,
    authority: String,
    /// The path before each requested path, without a slash at its end.
    prefix: String,
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "want http://HOST, http://HOST:PORT or http://HOST:PORT/PREFIX";
        let uri: Uri = text.parse().map_err(|_| WANT)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(WANT);
        }
        let authority = uri.authority().ok_or(WANT)?;
        Ok(Self {
            address: format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(80)
            ),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

/// Why a request to the metadata service failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    #[error("no response in time")]
    Timeout,
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("responded with status {0}")]
    BadStatus(StatusCode),
    #[error("unexpected response: {0}")]
    BadResponse(String),
}

/// A whole response of any status.
#[derive(Debug)]
pub(super) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// The time by the clock of the service, if the response has one.
    pub(super) fn service_time(&self) -> Option<DateTime<Utc>> {
        parse_http_time(self.headers.get(DATE)?.to_str().ok()?)
    }

    /// The body of a response with status 200.
    pub(super) fn text(&self) -> Result<&str, ServiceError> {
        if self.status != StatusCode::OK {
            return Err(ServiceError::BadStatus(self.status));
        }
        let text = std::str::from_utf8(&self.body);
        text.map_err(|_| ServiceError::BadResponse("the body is not UTF-8".into()))
    }
}

/// Parses a time as in HTTP headers and in events of Azure: `Mon, 19 Sep 2016 18:29:47 GMT`.
pub(super) fn parse_http_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|time| time.to_utc())
}

#[derive(Debug)]
pub(super) struct MetadataService(Url);

impl MetadataService {
    pub(super) fn new(url: Url) -> Self {
        Self(url)
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Sends one request and reads the whole response.
    ///
    /// # Errors
    /// The request failed, or took longer than `longest`.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        header: (&'static str, &str),
        longest: Duration,
    ) -> Result<Response, ServiceError> {
        let exchange = timeout(longest, self.exchange(method, path, header));
        exchange.await.unwrap_or(Err(ServiceError::Timeout))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        (name, value): (&'static str, &str),
    ) -> Result<Response, ServiceError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.0.prefix))
            .header(HOST, &self.0.authority)
            .header(name, value)
            .body(Empty::<Bytes>::new())
            .map_err(|error| ServiceError::Unreachable(error.to_string()))?;
        let stream = TcpStream::connect(&self.0.address).await;
        let stream = stream.map_err(|error| ServiceError::Unreachable(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| bad_response(&error))?;
        // The set aborts the task when this function returns.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(|error| bad_response(&error))?
            .into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| ServiceError::BadResponse(error.to_string()))?;
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

fn bad_response(error: &hyper::Error) -> ServiceError {
    ServiceError::BadResponse(error.to_string())
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};

    use super::{Url, parse_http_time};

    #[test]
    fn a_url_is_plain_http() {
        let parse = |text: &str| text.parse::<Url>();
        let plain = parse("http://169.254.169.254").expect("a URL");
        assert_eq!(plain.address, "169.254.169.254:80");
        assert_eq!(plain.to_string(), "http://169.254.169.254");
        let ipv6 = parse("http://[fd00:ec2::254]").expect("a URL");
        assert_eq!(ipv6.address, "[fd00:ec2::254]:80");
        let proxy = parse("http://localhost:1338/imds/").expect("a URL");
        assert_eq!(
            (proxy.address.as_str(), proxy.prefix.as_str()),
            ("localhost:1338", "/imds")
        );
        for wrong in ["https://169.254.169.254", "169.254.169.254", "", "http://"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_of_headers_are_read() {
        let time = Utc.with_ymd_and_hms(2016, 9, 19, 18, 29, 47).single();
        assert_eq!(parse_http_time("Mon, 19 Sep 2016 18:29:47 GMT"), time);
        assert_eq!(parse_http_time("tomorrow"), None);
    }
}
