use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Runs the jobs of a batch again that failed
#[derive(Debug, Args)]
pub(crate) struct RetryFailed {
    /// The batch's id
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl RetryFailed {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/batches/{}/retry_failed", self.id);
        let text = client.once_only(Method::POST, &path, None).await?;
        super::show(&text, self.json)?;
        Ok(Ended::Well)
    }
}
