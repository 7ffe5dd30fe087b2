use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Lets workers leave a model alone: submits go on, and what runs ends
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Name of the model
    #[arg(value_parser = crate::ids::in_path)]
    model: String,
    /// Shown to those who wonder: by `explain` and in `ops.models`
    #[arg(long, value_name = "REASON")]
    why: Option<String>,
    #[command(flatten)]
    service: Service,
}

impl Pause {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let why: Vec<_> = self
            .why
            .map(|why| ("why".to_owned(), why))
            .into_iter()
            .collect();
        let path = plain::path(&format!("/v1/queues/{}/pause", self.model), &why);
        let client = Client::new(self.service)?;
        client.repeatable(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}
