use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use jobs::{
    Secret, batches,
    db::{Db, answered},
    events::Subject,
    queue::{self, QueueError},
    webhooks::{AttemptResult, Delivery, DeliveryOutcome, owner_secret, sign},
};
use reqwest::{Response, StatusCode, header};

use super::schedule::pause;
use crate::{
    event_body::{Data, News},
    outside::{Outside, was_refused},
};

/// Of a redirect's target, in the words for the owner.
const LOCATION_CHARS_MAX: usize = 200;

/// What sends one delivery at a time.
#[derive(Debug)]
pub(super) struct Sender {
    db: Db,
    outside: Outside,
    timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub settled: AttemptResult,
    /// The receiver wants no more.
    pub is_gone: bool,
}

/// What a message says beside its type and time.
struct Told {
    data: Data,
    /// Of the request that made the job.
    trace_parent: Option<String>,
}

/// An answer that will do, or why it will not.
enum Answer {
    Taken,
    Gone,
    Failed {
        error: String,
        retry_after: Option<Duration>,
    },
}

impl Answer {
    fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            retry_after: None,
        }
    }
}

impl Sender {
    pub fn new(db: Db, outside: Outside, timeout: Duration) -> Self {
        Self {
            db,
            outside,
            timeout,
        }
    }

    /// Sends a delivery once.
    ///
    /// # Errors
    /// Postgres is away: nothing was sent.
    pub async fn send(&self, delivery: &Delivery) -> Result<Sent, QueueError> {
        let told = answered(&self.db, self.told(delivery)).await?;
        let secrets = answered(&self.db, self.secrets(delivery)).await?;
        let (began, began_at) = (Instant::now(), Utc::now());
        let (status, answer) = if secrets.is_empty() {
            (None, Answer::Gone)
        } else {
            self.post(delivery, told, &secrets, began_at).await
        };
        let is_gone = matches!(answer, Answer::Gone);
        let (outcome, error) = match answer {
            Answer::Taken => (DeliveryOutcome::Delivered, None),
            Answer::Gone if status.is_none() => (
                DeliveryOutcome::Failed,
                Some("the endpoint was deleted".into()),
            ),
            Answer::Gone => (
                DeliveryOutcome::Failed,
                Some("410: the receiver is gone for good".into()),
            ),
            Answer::Failed { error, retry_after } => {
                let outcome = pause(delivery.tries, retry_after)
                    .map_or(DeliveryOutcome::Failed, DeliveryOutcome::Retry);
                (outcome, Some(error))
            }
        };
        let settled = AttemptResult {
            outcome,
            began_at,
            took: began.elapsed(),
            status: status.map(|status| status.as_u16()),
            error,
        };
        Ok(Sent { settled, is_gone })
    }

    /// What the delivery is about, as it stands now.
    async fn told(&self, delivery: &Delivery) -> Result<Told, QueueError> {
        let mut trace_parent = None;
        let data = match delivery.subject {
            Subject::Job(id) => {
                let job = queue::find(&self.db, id, &delivery.owner).await?;
                trace_parent = job.as_ref().and_then(|job| job.trace_parent.clone());
                Data::of_job(id, job)
            }
            Subject::Batch(id) => {
                Data::of_batch(id, batches::find(&self.db, id, &delivery.owner).await?)
            }
        };
        Ok(Told { data, trace_parent })
    }

    /// None if the endpoint is not there any more.
    async fn secrets(&self, delivery: &Delivery) -> Result<Vec<Secret>, sqlx::Error> {
        if delivery.endpoint.is_some() || !delivery.secrets.is_empty() {
            return Ok(delivery.secrets.clone());
        }
        let made = owner_secret(&self.db, &delivery.owner).await?;
        Ok(vec![made.secret])
    }

    async fn post(
        &self,
        delivery: &Delivery,
        told: Told,
        secrets: &[Secret],
        at: DateTime<Utc>,
    ) -> (Option<StatusCode>, Answer) {
        let url = match self.outside.check(&delivery.url) {
            Ok(url) => url,
            Err(refused) => return (None, Answer::failed(format!("the URL {refused}"))),
        };
        let Told { data, trace_parent } = told;
        let news = News::new(delivery.event_type, delivery.at, data);
        let body = serde_json::to_string(&news).expect("news have only JSON-able fields");
        let (id, timestamp) = (delivery.id.to_string(), at.timestamp());
        let mut request = self
            .outside
            .client()
            .post(url)
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-signature", sign(secrets, &id, timestamp, &body))
            .header("webhook-timestamp", timestamp)
            .header("webhook-id", id);
        if let Some(trace_parent) = trace_parent {
            request = request.header("traceparent", trace_parent);
        }
        // Nobody reads the body of the answer: there is nothing in it that we would tell.
        match request.body(body).send().await {
            Ok(response) => (Some(response.status()), judge(&response)),
            Err(error) => (None, Answer::failed(in_words(&error))),
        }
    }
}

fn judge(response: &Response) -> Answer {
    let status = response.status();
    let text = |name| response.headers().get(name)?.to_str().ok();
    if status.is_success() {
        return Answer::Taken;
    }
    if status == StatusCode::GONE {
        return Answer::Gone;
    }
    if status.is_redirection() {
        let location: String = text(header::LOCATION)
            .unwrap_or("nowhere")
            .chars()
            .take(LOCATION_CHARS_MAX)
            .collect();
        let code = status.as_u16();
        return Answer::failed(format!(
            "{code}: a redirect to {location}, which is not followed"
        ));
    }
    Answer::Failed {
        error: format!("{}: not a 2xx", status.as_u16()),
        retry_after: text(header::RETRY_AFTER).and_then(retry_after),
    }
}

/// In seconds, or as a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    (date.to_utc() - Utc::now()).to_std().ok()
}

/// For the owner of the receiver: which step failed, and nothing about this side.
fn in_words(error: &reqwest::Error) -> &'static str {
    if was_refused(error) {
        "the URL must not lead to a private, local or reserved address"
    } else if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::retry_after;

    #[test]
    fn retry_after_comes_in_seconds_or_as_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_mins(2)));
        let date = (chrono::Utc::now() + chrono::TimeDelta::minutes(5)).to_rfc2822();
        let pause = retry_after(&date.replace("+0000", "GMT")).expect("a date");
        assert!(pause > Duration::from_mins(4), "{pause:?}");
        for not in ["", "soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(retry_after(not), None, "{not}");
        }
    }
}
