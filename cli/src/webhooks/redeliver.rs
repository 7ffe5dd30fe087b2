use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Sends a delivery once more, under its old id
#[derive(Debug, Args)]
pub(crate) struct Redeliver {
    /// `ID` of `darkroom webhooks deliveries`
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Redeliver {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/webhook_deliveries/{}/redeliver", self.id);
        client.once_only(Method::POST, &path, None).await?;
        Ok(Ended::Well)
    }
}
