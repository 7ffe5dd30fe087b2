//! Asking the metadata service: one small HTTP request a connection, bounded in time and size. No proxy, no TLS, no
//! redirects: it answers from this machine or not at all.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri, client::conn::http1, header::DATE, header::HOST,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// No document of these services is near as long.
const BODY_BYTES_MAX: usize = 64 << 10;

/// `--metadata-url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host and port to connect to.
    place: String,
    authority: String,
    /// Before each path, without the slash at its end.
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
            place: format!(
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

/// What is wrong with the service.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no answer in time")]
    Silent,
    #[error("cannot be asked: {0}")]
    Unreachable(String),
    #[error("answered {0}")]
    Refused(StatusCode),
    #[error("answered what nobody asked for: {0}")]
    Garbled(String),
}

/// One whole answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The service's clock, where it tells it.
    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        http_time(self.headers.get(DATE)?.to_str().ok()?)
    }

    /// The body of a 200.
    pub(super) fn text(&self) -> Result<&str, Fault> {
        if self.status != StatusCode::OK {
            return Err(Fault::Refused(self.status));
        }
        let text = std::str::from_utf8(&self.body);
        text.map_err(|_| Fault::Garbled("bytes that are no text".into()))
    }
}

/// The times of HTTP headers, and of Azure: `Mon, 19 Sep 2016 18:29:47 GMT`.
pub(super) fn http_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text)
        .ok()
        .map(|time| time.to_utc())
}

#[derive(Debug)]
pub(super) struct Service(Url);

impl Service {
    pub(super) fn new(url: Url) -> Self {
        Self(url)
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// One request and its whole answer, or a fault after `longest` at the latest.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&'static str, &str),
        longest: Duration,
    ) -> Result<Answer, Fault> {
        let exchange = timeout(longest, self.exchange(method, path, header));
        exchange.await.unwrap_or(Err(Fault::Silent))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        (name, value): (&'static str, &str),
    ) -> Result<Answer, Fault> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.0.prefix))
            .header(HOST, &self.0.authority)
            .header(name, value)
            .body(Empty::<Bytes>::new())
            .map_err(|error| Fault::Unreachable(error.to_string()))?;
        let stream = TcpStream::connect(&self.0.place).await;
        let stream = stream.map_err(|error| Fault::Unreachable(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| garbled(&error))?;
        // Ends with this exchange, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(|error| garbled(&error))?
            .into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Fault::Garbled(error.to_string()))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

fn garbled(error: &hyper::Error) -> Fault {
    Fault::Garbled(error.to_string())
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};

    use super::{Url, http_time};

    #[test]
    fn a_url_is_plain_http() {
        let parse = |text: &str| text.parse::<Url>();
        let plain = parse("http://169.254.169.254").expect("a URL");
        assert_eq!(plain.place, "169.254.169.254:80");
        assert_eq!(plain.to_string(), "http://169.254.169.254");
        let ipv6 = parse("http://[fd00:ec2::254]").expect("a URL");
        assert_eq!(ipv6.place, "[fd00:ec2::254]:80");
        let proxy = parse("http://localhost:1338/imds/").expect("a URL");
        assert_eq!(
            (proxy.place.as_str(), proxy.prefix.as_str()),
            ("localhost:1338", "/imds")
        );
        for wrong in ["https://169.254.169.254", "169.254.169.254", "", "http://"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_of_headers_are_read() {
        let time = Utc.with_ymd_and_hms(2016, 9, 19, 18, 29, 47).single();
        assert_eq!(http_time("Mon, 19 Sep 2016 18:29:47 GMT"), time);
        assert_eq!(http_time("tomorrow"), None);
    }
}
