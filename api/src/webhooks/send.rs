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
use wire::EventSubject;

use super::schedule::pause;
use crate::{
    egress::{Egress, was_refused},
    routes::events::{batch_subject, job_subject, webhook_message},
};

/// Most characters of a redirect's target in the error for the owner.
const LOCATION_CHARS_MAX: usize = 200;

/// Sends single deliveries.
#[derive(Debug)]
pub(super) struct Sender {
    db: Db,
    egress: Egress,
    timeout: Duration,
}

/// The outcome of one attempt.
#[derive(Debug)]
pub(super) struct SendResult {
    pub settled: AttemptResult,
    /// The receiver answered 410: its endpoint gets no more webhooks.
    pub endpoint_is_gone: bool,
}

/// What a webhook is about.
struct WebhookContent {
    data: EventSubject,
    /// `traceparent` of the request that made the job.
    trace_parent: Option<String>,
}

/// The receiver's answer, or why there is none.
enum ReceiverAnswer {
    Accepted,
    Gone,
    /// Nothing was sent. A later attempt would be refused too.
    Refused(String),
    Failed {
        error: String,
        retry_after: Option<Duration>,
    },
}

impl ReceiverAnswer {
    fn failed(error: impl Into<String>) -> Self {
        Self::Failed {
            error: error.into(),
            retry_after: None,
        }
    }
}

impl Sender {
    pub fn new(db: Db, egress: Egress, timeout: Duration) -> Self {
        Self {
            db,
            egress,
            timeout,
        }
    }

    /// Sends a delivery once.
    ///
    /// # Errors
    /// Postgres cannot be read: nothing was sent.
    pub async fn send(&self, delivery: &Delivery) -> Result<SendResult, QueueError> {
        let content = answered(&self.db, self.content(delivery)).await?;
        let secrets = answered(&self.db, self.secrets(delivery)).await?;
        let (began, began_at) = (Instant::now(), Utc::now());
        let (status, answer) = if secrets.is_empty() {
            (None, ReceiverAnswer::Gone)
        } else {
            self.post(delivery, content, &secrets, began_at).await
        };
        let endpoint_is_gone = matches!(answer, ReceiverAnswer::Gone);
        let (outcome, error) = match answer {
            ReceiverAnswer::Accepted => (DeliveryOutcome::Delivered, None),
            ReceiverAnswer::Gone if status.is_none() => (
                DeliveryOutcome::Failed,
                Some("the endpoint was deleted".into()),
            ),
            ReceiverAnswer::Gone => (
                DeliveryOutcome::Failed,
                Some("410: the receiver is gone for good".into()),
            ),
            ReceiverAnswer::Refused(error) => (DeliveryOutcome::Failed, Some(error)),
            ReceiverAnswer::Failed { error, retry_after } => {
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
        Ok(SendResult {
            settled,
            endpoint_is_gone,
        })
    }

    /// The current state of the job or batch.
    async fn content(&self, delivery: &Delivery) -> Result<WebhookContent, QueueError> {
        let mut trace_parent = None;
        let data = match delivery.subject {
            Subject::Job(id) => {
                let job = queue::find(&self.db, id, &delivery.destination.owner).await?;
                trace_parent = job.as_ref().and_then(|job| job.trace_parent.clone());
                job_subject(id, job)
            }
            Subject::Batch(id) => {
                let found = batches::find_all(&self.db, &[id], &delivery.destination.owner)
                    .await?
                    .pop();
                batch_subject(id, found)
            }
        };
        Ok(WebhookContent { data, trace_parent })
    }

    /// The signing secrets; none if the endpoint was deleted.
    async fn secrets(&self, delivery: &Delivery) -> Result<Vec<Secret>, sqlx::Error> {
        if delivery.endpoint.is_some() || !delivery.secrets.is_empty() {
            return Ok(delivery.secrets.clone());
        }
        let made = owner_secret(&self.db, &delivery.destination.owner).await?;
        Ok(vec![made.secret])
    }

    async fn post(
        &self,
        delivery: &Delivery,
        content: WebhookContent,
        secrets: &[Secret],
        at: DateTime<Utc>,
    ) -> (Option<StatusCode>, ReceiverAnswer) {
        let url = match self.egress.check(&delivery.url) {
            Ok(url) => url,
            Err(refused) => return (None, ReceiverAnswer::Refused(format!("the URL {refused}"))),
        };
        let WebhookContent { data, trace_parent } = content;
        let body = webhook_message(delivery.event_type, delivery.at, data);
        let body = serde_json::to_string(&body).expect("a webhook has only JSON-able fields");
        let (id, timestamp) = (delivery.id.to_string(), at.timestamp());
        let mut request = self
            .egress
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
        // The body of the answer is not read: nothing in it matters.
        match request.body(body).send().await {
            Ok(response) => (Some(response.status()), read_answer(&response)),
            Err(error) => (None, ReceiverAnswer::failed(describe(&error))),
        }
    }
}

fn read_answer(response: &Response) -> ReceiverAnswer {
    let status = response.status();
    let text = |name| response.headers().get(name)?.to_str().ok();
    if status.is_success() {
        return ReceiverAnswer::Accepted;
    }
    if status == StatusCode::GONE {
        return ReceiverAnswer::Gone;
    }
    if status.is_redirection() {
        let location: String = text(header::LOCATION)
            .unwrap_or("nowhere")
            .chars()
            .take(LOCATION_CHARS_MAX)
            .collect();
        let code = status.as_u16();
        return ReceiverAnswer::failed(format!(
            "{code}: a redirect to {location}, which is not followed"
        ));
    }
    ReceiverAnswer::Failed {
        error: format!("{}: not a 2xx", status.as_u16()),
        retry_after: text(header::RETRY_AFTER).and_then(retry_after),
    }
}

/// Parses `Retry-After`: seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    (date.to_utc() - Utc::now()).to_std().ok()
}

/// Which step of the request failed. The owner reads this text, so it says nothing about the network of this process: a name that
/// leads to a private address fails like a name that does not exist.
fn describe(error: &reqwest::Error) -> &'static str {
    if was_refused(error) || error.is_connect() {
        "no connection: the name is unknown, nothing listens there, or it leads to a private, local or reserved address"
    } else if error.is_timeout() {
        "no answer in time"
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
