use clap::Args;
use reqwest::Method;
use serde_json::json;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Adds a receiver, and shows the secret that verifies what it gets, this once
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom webhooks add https://example.org/hooks --events job.succeeded,job.failed")]
pub(crate) struct Add {
    // Not `url`: that is the service's.
    /// Where to send to
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    /// Only these, separated by commas: `job.succeeded`, `job.failed`, `batch.completed`, …; all if left out
    #[arg(long, value_delimiter = ',', value_name = "EVENTS")]
    events: Vec<String>,
    /// The answer as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Add {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let mut body = json!({"url": self.receiver});
        if !self.events.is_empty() {
            body["events"] = self.events.into();
        }
        let path = "/v1/webhook_endpoints";
        let text = client.once_only(Method::POST, path, Some(&body)).await?;
        plain::answer(&text, self.json, plain::any::facts)?;
        Ok(Ended::Well)
    }
}
