use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Shows who used how much
#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// What to add up by: `day`, `model`, `owner`, …, as the service offers it
    #[arg(long, value_name = "FIELD")]
    group_by: Option<String>,
    /// As the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Usage {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let query: Vec<_> = self
            .group_by
            .map(|field| ("group_by".to_owned(), field))
            .into_iter()
            .collect();
        let path = plain::path("/v1/usage", &query);
        let text = Client::new(self.service)?.get(&path).await?;
        plain::answer(&text, self.json, plain::any::table)?;
        Ok(Ended::Well)
    }
}
