use clap::Args;

use crate::{
    Ended,
    failure::Failure,
    plain::{self, any::Column},
    service::{Client, Service},
};

const COLUMNS: [Column; 8] = [
    ("ID", "/worker_id"),
    ("NAME", "/name"),
    ("STATUS", "/status"),
    ("RUNNING", "/running"),
    ("DEVICE", "/device"),
    ("MODELS", "/models"),
    ("SINCE", "/registered_at"),
    ("BUILD", "/build"),
];

#[derive(Debug, Args)]
pub(super) struct List {
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl List {
    pub(super) async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/workers").await?;
        plain::answer(&text, self.json, |list| {
            plain::any::rows(
                &list["data"],
                &COLUMNS,
                "no worker was there within the last hour",
            )
        })?;
        Ok(Ended::Well)
    }
}
