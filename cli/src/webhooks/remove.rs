use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Removes a receiver
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// `ID` of `darkroom webhooks list`
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Remove {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/webhook_endpoints/{}", self.id);
        client.repeatable(Method::DELETE, &path).await?;
        Ok(Ended::Well)
    }
}
