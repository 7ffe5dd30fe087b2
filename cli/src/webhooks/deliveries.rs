use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Lists what was sent, to whom, and what they answered
#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Deliveries {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = client.get("/v1/webhook_deliveries").await?;
        plain::answer(&text, self.json, plain::any::table)?;
        Ok(Ended::Well)
    }
}
