//! AWS, instance metadata service version 2. A request needs a token. The documents are missing (404) until there is a notice.
//!
//! `spot/instance-action` appears two minutes before the end; a rebalance recommendation may come earlier.

use std::time::{Duration, Instant};

use chrono::DateTime;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{
    RESPONSE_TIMEOUT, SpotStatus,
    metadata_service::{MetadataService, Response, ServiceError},
    time_left_until,
};

const TOKEN_PATH: &str = "/latest/api/token";
const ACTION_PATH: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE_PATH: &str = "/latest/meta-data/events/recommendations/rebalance";
/// The longest life of a token that the service allows.
const TOKEN_SECONDS: &str = "21600";
/// A token is renewed after this time, long before it expires.
const TOKEN_AGE_MAX: Duration = Duration::from_hours(3);
/// Most bytes of a token. Tokens have about 60.
const TOKEN_BYTES_MAX: usize = 1024;
/// The time that AWS promises between a notice and the end. Used if the notice has no readable time.
const PROMISED_TIME: Duration = Duration::from_mins(2);

#[derive(Debug, Default)]
pub(super) struct Aws {
    token: Option<(String, Instant)>,
}

impl Aws {
    /// Returns `Some` on AWS: only its service has tokens.
    pub(super) async fn detect(service: &MetadataService) -> Option<Self> {
        let token = token(service).await.ok()?;
        Some(Self { token: Some(token) })
    }

    pub(super) async fn poll(
        &mut self,
        service: &MetadataService,
    ) -> Result<SpotStatus, ServiceError> {
        let action = self.get(service, ACTION_PATH).await?;
        if action.status != StatusCode::NOT_FOUND {
            return notice(&action);
        }
        let rebalance = self.get(service, REBALANCE_PATH).await?;
        if rebalance.status != StatusCode::NOT_FOUND {
            return advice(&rebalance);
        }
        Ok(SpotStatus::NoNotice)
    }

    async fn get(
        &mut self,
        service: &MetadataService,
        path: &str,
    ) -> Result<Response, ServiceError> {
        let old = self.token.take();
        if let Some(old) = old.filter(|(_, since)| since.elapsed() < TOKEN_AGE_MAX) {
            let response = get_with(service, path, &old.0).await?;
            if response.status != StatusCode::UNAUTHORIZED {
                self.token = Some(old);
                return Ok(response);
            }
        }
        let new = token(service).await?;
        let response = get_with(service, path, &new.0).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            return Err(ServiceError::BadStatus(response.status));
        }
        self.token = Some(new);
        Ok(response)
    }
}

async fn get_with(
    service: &MetadataService,
    path: &str,
    token: &str,
) -> Result<Response, ServiceError> {
    let header = ("x-aws-ec2-metadata-token", token);
    service
        .request(Method::GET, path, header, RESPONSE_TIMEOUT)
        .await
}

async fn token(service: &MetadataService) -> Result<(String, Instant), ServiceError> {
    let header = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let response = service
        .request(Method::PUT, TOKEN_PATH, header, RESPONSE_TIMEOUT)
        .await?;
    let token = response.text()?;
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        Ok((token.to_owned(), Instant::now()))
    } else {
        Err(ServiceError::BadResponse("not a token".into()))
    }
}

fn document(response: &Response) -> Result<Value, ServiceError> {
    serde_json::from_str(response.text()?)
        .map_err(|error| ServiceError::BadResponse(error.to_string()))
}

/// `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`.
fn notice(response: &Response) -> Result<SpotStatus, ServiceError> {
    let document = document(response)?;
    let action = document["action"].as_str();
    let action = action
        .ok_or_else(|| ServiceError::BadResponse("an instance action without `action`".into()))?;
    let end = document["time"]
        .as_str()
        .and_then(|time| DateTime::parse_from_rfc3339(time).ok())
        .map(|time| time.to_utc());
    // A hibernation begins with its notice.
    let time_left = if action == "hibernate" {
        Duration::ZERO
    } else {
        time_left_until(end, response.service_time(), PROMISED_TIME)
    };
    Ok(SpotStatus::Notice {
        time_left,
        event: action.to_owned(),
    })
}

/// `{"noticeTime": "2020-10-27T08:22:00Z"}`.
fn advice(response: &Response) -> Result<SpotStatus, ServiceError> {
    match document(response)?["noticeTime"].as_str() {
        Some(_) => Ok(SpotStatus::Advice),
        None => Err(ServiceError::BadResponse(
            "a recommendation without `noticeTime`".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{HeaderMap, StatusCode, header::DATE};

    use super::{Response, SpotStatus, advice, notice};

    fn response(status: u16, body: &str) -> Response {
        let mut headers = HeaderMap::new();
        let date = "Mon, 18 Sep 2017 08:20:30 GMT".parse().expect("a header");
        headers.insert(DATE, date);
        Response {
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            body: body.to_owned().into(),
        }
    }

    fn seconds_left(body: &str) -> Option<u64> {
        match notice(&response(200, body)) {
            Ok(SpotStatus::Notice { time_left, .. }) => Some(time_left.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn an_action_is_a_notice_with_the_time_left() {
        let at = |action: &str, time: &str| {
            seconds_left(&format!(r#"{{"action":"{action}","time":"{time}"}}"#))
        };
        assert_eq!(at("terminate", "2017-09-18T08:22:00Z"), Some(90));
        assert_eq!(at("stop", "2017-09-18T08:20:00Z"), Some(0), "over already");
        assert_eq!(at("hibernate", "2017-09-18T08:22:00Z"), Some(0), "at once");
        assert_eq!(at("terminate", "soon"), Some(120), "as promised");
        assert_eq!(seconds_left(r#"{"action":"terminate"}"#), Some(120));
    }

    #[test]
    fn a_document_without_an_action_is_no_notice() {
        for garbage in [
            "",
            "terminate",
            "<html>",
            "[]",
            "{}",
            r#"{"action":7}"#,
            "null",
        ] {
            assert!(notice(&response(200, garbage)).is_err(), "{garbage:?}");
        }
        let body = r#"{"action":"terminate"}"#;
        for status in [401, 403, 500, 503] {
            assert!(notice(&response(status, body)).is_err(), "{status}");
        }
    }

    #[test]
    fn a_recommendation_is_an_advice() {
        let body = r#"{"noticeTime":"2020-10-27T08:22:00Z"}"#;
        assert_eq!(advice(&response(200, body)).ok(), Some(SpotStatus::Advice));
        assert!(advice(&response(200, "{}")).is_err());
        assert!(advice(&response(500, body)).is_err());
    }

    #[test]
    fn without_the_time_of_the_service_the_promised_time_counts() {
        let mut response = response(
            200,
            r#"{"action":"terminate","time":"2017-09-18T08:22:00Z"}"#,
        );
        response.headers.clear();
        let expected = SpotStatus::Notice {
            time_left: Duration::from_mins(2),
            event: "terminate".into(),
        };
        assert_eq!(notice(&response).ok(), Some(expected));
    }
}
