//! AWS, instance metadata service version 2: a token first, then documents that are not there (404) until they matter.
//!
//! `spot/instance-action` appears two minutes before the end; a rebalance recommendation may come earlier.

use std::time::{Duration, Instant};

use chrono::DateTime;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{ANSWER, Fault, Service, Sight, left_until, service::Answer};

const TOKEN_PATH: &str = "/latest/api/token";
const ACTION_PATH: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE_PATH: &str = "/latest/meta-data/events/recommendations/rebalance";
/// The longest that the service grants.
const TOKEN_SECONDS: &str = "21600";
/// Well before that, so that a refused token is a fault and not the rule.
const TOKEN_AGE_MAX: Duration = Duration::from_hours(3);
/// Tokens are some 60 characters.
const TOKEN_BYTES_MAX: usize = 1024;
/// What is promised when the time cannot be read.
const PROMISED: Duration = Duration::from_mins(2);

#[derive(Debug, Default)]
pub(super) struct Aws {
    token: Option<(String, Instant)>,
}

impl Aws {
    /// Whether this is AWS: nobody else hands out tokens.
    pub(super) async fn find(service: &Service) -> Option<Self> {
        let token = token(service).await.ok()?;
        Some(Self { token: Some(token) })
    }

    pub(super) async fn look(&mut self, service: &Service) -> Result<Sight, Fault> {
        let action = self.get(service, ACTION_PATH).await?;
        if action.status != StatusCode::NOT_FOUND {
            return notice(&action);
        }
        let rebalance = self.get(service, REBALANCE_PATH).await?;
        if rebalance.status != StatusCode::NOT_FOUND {
            return advice(&rebalance);
        }
        Ok(Sight::Clear)
    }

    async fn get(&mut self, service: &Service, path: &str) -> Result<Answer, Fault> {
        let kept = self.token.take();
        if let Some(kept) = kept.filter(|(_, since)| since.elapsed() < TOKEN_AGE_MAX) {
            let answer = get_with(service, path, &kept.0).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                self.token = Some(kept);
                return Ok(answer);
            }
        }
        let fresh = token(service).await?;
        let answer = get_with(service, path, &fresh.0).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(Fault::Refused(answer.status));
        }
        self.token = Some(fresh);
        Ok(answer)
    }
}

async fn get_with(service: &Service, path: &str, token: &str) -> Result<Answer, Fault> {
    let header = ("x-aws-ec2-metadata-token", token);
    service.ask(Method::GET, path, header, ANSWER).await
}

async fn token(service: &Service) -> Result<(String, Instant), Fault> {
    let header = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let answer = service.ask(Method::PUT, TOKEN_PATH, header, ANSWER).await?;
    let token = answer.text()?;
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        Ok((token.to_owned(), Instant::now()))
    } else {
        Err(Fault::Garbled("no token".into()))
    }
}

fn document(answer: &Answer) -> Result<Value, Fault> {
    serde_json::from_str(answer.text()?).map_err(|error| Fault::Garbled(error.to_string()))
}

/// `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`.
fn notice(answer: &Answer) -> Result<Sight, Fault> {
    let document = document(answer)?;
    let action = document["action"].as_str();
    let action =
        action.ok_or_else(|| Fault::Garbled("an instance action without action".into()))?;
    let end = document["time"]
        .as_str()
        .and_then(|time| DateTime::parse_from_rfc3339(time).ok())
        .map(|time| time.to_utc());
    // Hibernation begins with its notice.
    let left = if action == "hibernate" {
        Duration::ZERO
    } else {
        left_until(end, answer.now(), PROMISED)
    };
    Ok(Sight::Notice {
        left,
        what: action.to_owned(),
    })
}

/// `{"noticeTime": "2020-10-27T08:22:00Z"}`.
fn advice(answer: &Answer) -> Result<Sight, Fault> {
    match document(answer)?["noticeTime"].as_str() {
        Some(_) => Ok(Sight::Advice),
        None => Err(Fault::Garbled("a recommendation without time".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{HeaderMap, StatusCode, header::DATE};

    use super::{Answer, Sight, advice, notice};

    fn answer(status: u16, body: &str) -> Answer {
        let mut headers = HeaderMap::new();
        let date = "Mon, 18 Sep 2017 08:20:30 GMT".parse().expect("a header");
        headers.insert(DATE, date);
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers,
            body: body.to_owned().into(),
        }
    }

    fn left(body: &str) -> Option<u64> {
        match notice(&answer(200, body)) {
            Ok(Sight::Notice { left, .. }) => Some(left.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn an_action_is_a_notice_and_its_time_a_bound() {
        let at =
            |action: &str, time: &str| left(&format!(r#"{{"action":"{action}","time":"{time}"}}"#));
        assert_eq!(at("terminate", "2017-09-18T08:22:00Z"), Some(90));
        assert_eq!(at("stop", "2017-09-18T08:20:00Z"), Some(0), "over already");
        assert_eq!(at("hibernate", "2017-09-18T08:22:00Z"), Some(0), "at once");
        assert_eq!(at("terminate", "soon"), Some(120), "as promised");
        assert_eq!(left(r#"{"action":"terminate"}"#), Some(120));
    }

    #[test]
    fn what_is_no_action_is_no_notice() {
        for garbage in [
            "",
            "terminate",
            "<html>",
            "[]",
            "{}",
            r#"{"action":7}"#,
            "null",
        ] {
            assert!(notice(&answer(200, garbage)).is_err(), "{garbage:?}");
        }
        let body = r#"{"action":"terminate"}"#;
        for status in [401, 403, 500, 503] {
            assert!(notice(&answer(status, body)).is_err(), "{status}");
        }
    }

    #[test]
    fn a_recommendation_is_an_advice() {
        let body = r#"{"noticeTime":"2020-10-27T08:22:00Z"}"#;
        assert_eq!(advice(&answer(200, body)).ok(), Some(Sight::Advice));
        assert!(advice(&answer(200, "{}")).is_err());
        assert!(advice(&answer(500, body)).is_err());
    }

    #[test]
    fn without_a_clock_of_the_service_the_promise_counts() {
        let mut answer = answer(
            200,
            r#"{"action":"terminate","time":"2017-09-18T08:22:00Z"}"#,
        );
        answer.headers.clear();
        let expected = Sight::Notice {
            left: Duration::from_mins(2),
            what: "terminate".into(),
        };
        assert_eq!(notice(&answer).ok(), Some(expected));
    }
}
