use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Shows what waits, since when, how fast it goes, and how many workers it would take
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// As the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Stats {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/stats").await?;
        plain::answer(&text, self.json, plain::stats::page)?;
        Ok(Ended::Well)
    }
}
