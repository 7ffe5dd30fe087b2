use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Lists what was sent, and what the receivers answered, newest first
#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    /// Only those in this state
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
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let mut query = vec![("limit".to_owned(), self.limit.to_string())];
        query.extend(self.status.map(|status| ("status".to_owned(), status)));
        let path = plain::path("/v1/webhook_deliveries", &query);
        let text = client.get(&path).await?;
        plain::answer(&text, self.json, plain::webhooks::deliveries)?;
        Ok(Ended::Well)
    }
}
