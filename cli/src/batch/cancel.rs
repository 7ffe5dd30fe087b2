use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Cancels what has not ended of a batch
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The batch's id
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Cancel {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/batches/{}/cancel", self.id);
        let text = client.repeatable(Method::POST, &path).await?;
        super::show(&text, self.json)?;
        Ok(Ended::Well)
    }
}
