use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

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
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?
            .get("/v1/webhook_endpoints")
            .await?;
        plain::answer(&text, self.json, plain::webhooks::receivers)?;
        Ok(Ended::Well)
    }
}
