//! `darkroom webhooks …`: standing receivers, deliveries, and the secret that signs.

use clap::{Args, Subcommand};
use reqwest::Method;
use wire::{
    Extensible, List as WireList, Page, WebhookDelivery, WebhookEndpoint, WebhookEndpointRequest,
    WebhookSecret,
};

use crate::{
    Ended,
    failure::Failure,
    service::{self, Client, Service, path_part},
    terminal,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Webhooks {
    Add(Add),
    List(List),
    Remove(Remove),
    Deliveries(Deliveries),
    Redeliver(Redeliver),
    Secret(Secret),
}

impl Webhooks {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Deliveries(deliveries) => deliveries.run().await,
            Self::Redeliver(redeliver) => redeliver.run().await,
            Self::Secret(secret) => secret.run().await,
        }
    }
}

/// Adds a receiver, and shows the secret that signs its messages, this once
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom webhooks add https://example.org/hooks --events job.succeeded,job.failed")]
pub(crate) struct Add {
    // Not `url`: that is the service's.
    /// URL to send to
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    /// Only these events, separated by commas: `job.succeeded`, `job.failed`, `batch.completed`, …; all if left out
    #[arg(long, value_delimiter = ',', value_name = "EVENTS")]
    events: Vec<String>,
    /// The answer as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Add {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let events: Vec<_> = self
            .events
            .iter()
            .map(|event| Extensible::from(event.as_str()))
            .collect();
        let body = WebhookEndpointRequest {
            url: self.receiver,
            events: (!events.is_empty()).then_some(events),
        };
        let text = client
            .post_json_once("/v1/webhook_endpoints", &body)
            .await?;
        terminal::answer(&text, self.json, |endpoint: &WebhookEndpoint| {
            terminal::fields(endpoint)
        })?;
        Ok(Ended::Well)
    }
}

/// Lists the receivers
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl List {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = client.get("/v1/webhook_endpoints").await?;
        terminal::answer(&text, self.json, receivers)?;
        Ok(Ended::Well)
    }
}

fn receivers(endpoints: &WireList<WebhookEndpoint>) -> String {
    let row = |endpoint: &WebhookEndpoint| {
        let events: Vec<_> = endpoint
            .events
            .iter()
            .map(wire::Extensible::<wire::EventType>::as_str)
            .collect();
        vec![
            endpoint.id.clone(),
            endpoint.url.clone(),
            events.join(", "),
            terminal::some_time(endpoint.disabled_at.as_ref()),
        ]
    };
    let heads = ["ID", "URL", "EVENTS", "DISABLED"];
    terminal::table(
        &heads,
        endpoints.data.iter().map(row).collect(),
        "no receivers",
    )
}

/// Removes a receiver
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// `ID` of `darkroom webhooks list`
    #[arg(value_parser = path_part)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Remove {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/webhook_endpoints/{}", self.id);
        client.send_idempotent(Method::DELETE, &path).await?;
        Ok(Ended::Well)
    }
}

/// Lists deliveries and the answers of their receivers, newest first
#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    /// Only deliveries with this status
    #[arg(long, value_parser = ["pending", "delivered", "failed"])]
    status: Option<String>,
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Deliveries {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let mut query = vec![("limit".to_owned(), self.limit.to_string())];
        query.extend(self.status.map(|status| ("status".to_owned(), status)));
        let path = service::path("/v1/webhook_deliveries", &query);
        let text = client.get(&path).await?;
        terminal::answer(&text, self.json, deliveries)?;
        Ok(Ended::Well)
    }
}

/// One line for each delivery, with the answer to its last attempt.
fn deliveries(page: &Page<WebhookDelivery>) -> String {
    let row = |delivery: &WebhookDelivery| {
        let last = delivery.attempts.last();
        // An error names the HTTP status too.
        let answer =
            last.and_then(|last| last.error.clone().or(last.status.map(|s| s.to_string())));
        vec![
            delivery.id.clone(),
            delivery.event_type.clone(),
            terminal::some(delivery.job_id.as_ref().or(delivery.batch_id.as_ref())),
            delivery.status.as_str().to_owned(),
            delivery.attempts.len().to_string(),
            terminal::some_time(delivery.next_attempt_at.as_ref()),
            answer.unwrap_or_default(),
        ]
    };
    let heads = [
        "ID",
        "EVENT",
        "ABOUT",
        "STATUS",
        "TRIES",
        "NEXT",
        "LAST ANSWER",
    ];
    terminal::table(
        &heads,
        page.data.iter().map(row).collect(),
        "nothing was sent",
    )
}

/// Sends a delivery once more, under its old id
#[derive(Debug, Args)]
pub(crate) struct Redeliver {
    /// `ID` of `darkroom webhooks deliveries`
    #[arg(value_parser = path_part)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Redeliver {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/webhook_deliveries/{}/redeliver", self.id);
        client.post_once(&path).await?;
        Ok(Ended::Well)
    }
}

/// Shows or replaces the secret that signs the webhooks of jobs that name their own receiver
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// Make a new secret; for a while both sign, so that receivers can change over
    #[arg(long)]
    rotate: bool,
    /// The answer as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Secret {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = if self.rotate {
            client.post_once("/v1/webhook_secret/rotate").await?
        } else {
            client.get("/v1/webhook_secret").await?
        };
        terminal::answer(&text, self.json, |answer: &WebhookSecret| {
            answer.secret.expose().to_owned()
        })?;
        Ok(Ended::Well)
    }
}

#[cfg(test)]
mod tests {
    use super::deliveries;
    use serde_json::json;

    #[test]
    fn a_delivery_shows_the_answer_to_its_last_attempt() {
        let at = "2026-01-31T12:00:00Z";
        let failing = json!({
            "id": "d1", "object": "webhook_delivery", "type": "job.failed", "status": "pending", "url": "https://x",
            "endpoint_id": null, "job_id": "job_1", "batch_id": null, "created_at": at, "next_attempt_at": at, "ended_at": null,
            "attempts": [{"at": at, "status": null, "error": "no connection"}, {"at": at, "status": 500, "error": "500: not a 2xx"}]});
        let done = json!({
            "id": "d2", "object": "webhook_delivery", "type": "batch.completed", "status": "delivered", "url": "https://x",
            "endpoint_id": null, "job_id": null, "batch_id": "batch_1", "created_at": at, "next_attempt_at": null, "ended_at": at,
            "attempts": [{"at": at, "status": 200, "error": null}]});
        let page = json!({"object": "list", "data": [failing, done], "next_cursor": null});
        assert_eq!(
            deliveries(&serde_json::from_value(page).expect("a page")),
            "ID  EVENT            ABOUT    STATUS     TRIES  NEXT                         LAST ANSWER\n\
             d1  job.failed       job_1    pending    2      2026-01-31T12:00:00.000000Z  500: not a 2xx\n\
             d2  batch.completed  batch_1  delivered  1                                   200"
        );
    }
}
