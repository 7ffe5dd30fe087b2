use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Lists the models that jobs may name
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
        let text = Client::new(self.service)?.get("/v1/models").await?;
        if self.json {
            plain::line(text.trim_end())?;
        } else {
            plain::line(plain::models::table(&plain::read_json(&text)?))?;
        }
        Ok(Ended::Well)
    }
}
