//! Google Cloud: `instance/preempted` turns to TRUE 30 seconds before the end. The service holds the question until the
//! answer changes, so that the notice is heard at once.

use std::time::Duration;

use hyper::{Method, header::ETAG};

use super::{ANSWER, Fault, Service, Sight, service::Answer};

const PATH: &str = "/computeMetadata/v1/instance/preempted";
const HEADER: (&str, &str) = ("metadata-flavor", "Google");
/// How long the service may hold a question.
const HOLD_SECONDS: u64 = 20;
const PROMISED: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Gcp {
    /// Of the last answer: the next one is held until it is another. Without one the answer comes at once.
    etag: Option<String>,
}

impl Gcp {
    /// Whether this is Google Cloud: it says so in its answers.
    pub(super) async fn find(service: &Service) -> Option<Self> {
        let answer = service.ask(Method::GET, PATH, HEADER, ANSWER).await.ok()?;
        let flavor = answer.headers.get(HEADER.0)?;
        (flavor == HEADER.1 && read(&answer).is_ok()).then(Self::default)
    }

    pub(super) async fn look(&mut self, service: &Service) -> Result<Sight, Fault> {
        let answer = match self.etag.take() {
            Some(etag) => {
                let path = format!(
                    "{PATH}?wait_for_change=true&timeout_sec={HOLD_SECONDS}&last_etag={etag}"
                );
                let longest = Duration::from_secs(HOLD_SECONDS) + ANSWER;
                service.ask(Method::GET, &path, HEADER, longest).await?
            }
            None => service.ask(Method::GET, PATH, HEADER, ANSWER).await?,
        };
        let sight = read(&answer)?;
        self.etag = etag(&answer);
        Ok(sight)
    }
}

fn read(answer: &Answer) -> Result<Sight, Fault> {
    match answer.text()?.trim() {
        "TRUE" => Ok(Sight::Notice {
            left: PROMISED,
            what: "preempted".into(),
        }),
        "FALSE" => Ok(Sight::Clear),
        _ => Err(Fault::Garbled("neither TRUE nor FALSE".into())),
    }
}

/// A tag that may stand in a URL.
fn etag(answer: &Answer) -> Option<String> {
    let etag = answer.headers.get(ETAG)?.to_str().ok()?;
    let plain =
        (1..=64).contains(&etag.len()) && etag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| etag.to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, header::ETAG};

    use super::{Answer, PROMISED, Sight, etag, read};

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn only_true_is_a_notice() {
        let notice = Sight::Notice {
            left: PROMISED,
            what: "preempted".into(),
        };
        assert_eq!(read(&answer(200, "TRUE\n")).ok(), Some(notice));
        assert_eq!(read(&answer(200, "FALSE")).ok(), Some(Sight::Clear));
        for garbage in ["", "true", "<html>TRUE</html>", "TRUEFALSE"] {
            assert!(read(&answer(200, garbage)).is_err(), "{garbage:?}");
        }
        assert!(read(&answer(401, "TRUE")).is_err());
        assert!(read(&answer(503, "TRUE")).is_err());
    }

    #[test]
    fn a_tag_goes_into_the_url_only_if_it_may() {
        let tagged = |tag: &'static str| {
            let mut answer = answer(200, "FALSE");
            answer.headers.insert(ETAG, tag.parse().expect("a header"));
            etag(&answer)
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
