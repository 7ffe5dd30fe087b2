use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Shows the secret that signs deliveries of jobs with a webhook of their own, or replaces it
#[derive(Debug, Args)]
pub(crate) struct Secret {
    /// Make a new one; for a while both sign, so that receivers can change over
    #[arg(long)]
    rotate: bool,
    /// The answer as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Secret {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = if self.rotate {
            let path = "/v1/webhook_secret/rotate";
            client.once_only(Method::POST, path, None).await?
        } else {
            client.get("/v1/webhook_secret").await?
        };
        plain::answer(&text, self.json, |answer| plain::bare(&answer["secret"]))?;
        Ok(Ended::Well)
    }
}
