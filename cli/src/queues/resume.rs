use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Lets workers claim a model's jobs again
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Name of the model
    #[arg(value_parser = crate::ids::in_path)]
    model: String,
    #[command(flatten)]
    service: Service,
}

impl Resume {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/queues/{}/resume", self.model);
        client.repeatable(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}
