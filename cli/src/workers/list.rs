use clap::Args;
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    plain::{self, any::Column},
    service::{Client, Service},
};

const COLUMNS: [Column; 9] = [
    ("ID", "/worker_id"),
    ("NAME", "/name"),
    ("STATUS", "/status"),
    ("RUNNING", "/running"),
    ("DEVICE", "/device"),
    ("MODELS", "/models"),
    ("LOADED", "/loaded"),
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
            let mut workers = list["data"].clone();
            for worker in workers.as_array_mut().into_iter().flatten() {
                worker["loaded"] = loaded(&worker["loaded"]);
            }
            plain::any::rows(
                &workers,
                &COLUMNS,
                "no worker was there within the last hour",
            )
        })?;
        Ok(Ended::Well)
    }
}

/// `efficientnet-lite0:1 fp32 ×8`: eight images at once.
fn loaded(models: &Value) -> Value {
    let models = models.as_array().map_or(&[][..], Vec::as_slice);
    let of = |model: &Value| {
        let text = |name| model[name].as_str().unwrap_or("?").to_owned();
        format!(
            "{} {} ×{}",
            text("model"),
            text("precision"),
            model["batch_best"]
        )
    };
    models.iter().map(of).collect()
}
