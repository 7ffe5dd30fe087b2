//! Google Cloud: `instance/preempted` becomes TRUE 30 seconds before the end. Requests are long polling: the service responds
//! when the value changes.

use std::time::Duration;

use hyper::{Method, header::ETAG};

use super::{
    RESPONSE_TIMEOUT, SpotStatus,
    metadata_service::{MetadataService, Response, ServiceError},
};

const PATH: &str = "/computeMetadata/v1/instance/preempted";
const HEADER: (&str, &str) = ("metadata-flavor", "Google");
/// Longest time until the service responds.
const HOLD_SECONDS: u64 = 20;
const PROMISED_TIME: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Gcp {
    /// The `ETag` of the last response. Without one the service responds at once.
    etag: Option<String>,
}

impl Gcp {
    /// Returns `Some` on Google Cloud: a header of its responses names it.
    pub(super) async fn detect(service: &MetadataService) -> Option<Self> {
        let response = service
            .request(Method::GET, PATH, HEADER, RESPONSE_TIMEOUT)
            .await
            .ok()?;
        let flavor = response.headers.get(HEADER.0)?;
        (flavor == HEADER.1 && parse(&response).is_ok()).then(Self::default)
    }

    pub(super) async fn poll(
        &mut self,
        service: &MetadataService,
    ) -> Result<SpotStatus, ServiceError> {
        let response = match self.etag.take() {
            Some(etag) => {
                let path = format!(
                    "{PATH}?wait_for_change=true&timeout_sec={HOLD_SECONDS}&last_etag={etag}"
                );
                let longest = Duration::from_secs(HOLD_SECONDS) + RESPONSE_TIMEOUT;
                service.request(Method::GET, &path, HEADER, longest).await?
            }
            None => {
                service
                    .request(Method::GET, PATH, HEADER, RESPONSE_TIMEOUT)
                    .await?
            }
        };
        let status = parse(&response)?;
        self.etag = etag(&response);
        Ok(status)
    }
}

fn parse(response: &Response) -> Result<SpotStatus, ServiceError> {
    match response.text()?.trim() {
        "TRUE" => Ok(SpotStatus::Notice {
            time_left: PROMISED_TIME,
            event: "preempted".into(),
        }),
        "FALSE" => Ok(SpotStatus::NoNotice),
        _ => Err(ServiceError::BadResponse("neither TRUE nor FALSE".into())),
    }
}

/// The `ETag`, if it is safe in a URL.
fn etag(response: &Response) -> Option<String> {
    let etag = response.headers.get(ETAG)?.to_str().ok()?;
    let plain =
        (1..=64).contains(&etag.len()) && etag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, header::ETAG};

    use super::{PROMISED_TIME, Response, SpotStatus, etag, parse};

    fn response(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn only_true_is_a_notice() {
        let notice = SpotStatus::Notice {
            time_left: PROMISED_TIME,
            event: "preempted".into(),
        };
        assert_eq!(parse(&response(200, "TRUE\n")).ok(), Some(notice));
        assert_eq!(
            parse(&response(200, "FALSE")).ok(),
            Some(SpotStatus::NoNotice)
        );
        for garbage in ["", "true", "<html>TRUE</html>", "TRUEFALSE"] {
            assert!(parse(&response(200, garbage)).is_err(), "{garbage:?}");
        }
        assert!(parse(&response(401, "TRUE")).is_err());
        assert!(parse(&response(503, "TRUE")).is_err());
    }

    #[test]
    fn an_etag_goes_into_the_url_only_if_it_is_safe() {
        let tagged = |tag: &'static str| {
            let mut response = response(200, "FALSE");
            response
                .headers
                .insert(ETAG, tag.parse().expect("a header"));
            etag(&response)
        };
        assert_eq!(
            tagged("411261ca6c9e4682").as_deref(),
            Some("411261ca6c9e4682")
        );
        for wrong in ["", "\"quoted\"", "a&timeout_sec=99999", "a b"] {
            assert_eq!(tagged(wrong), None, "{wrong:?}");
        }
    }
}
