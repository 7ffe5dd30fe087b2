use clap::Args;
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    plain::{self, any::Column},
    service::{Client, Service},
};

const COLUMNS: [Column; 5] = [
    ("VERSION", "/version"),
    ("ALIASES", "/aliases"),
    ("TASK", "/task"),
    ("RETIRED", "/retired"),
    ("DIGEST", "/digest"),
];

/// Shows a model: its parameters and its versions
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name, without alias or version
    #[arg(value_parser = crate::ids::in_path)]
    model: String,
    /// One JSON document: `{"model", "versions"}`, each as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Show {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}", self.model);
        let model = client.get_json(&path).await?;
        let versions = client.get_json(&format!("{path}/versions")).await?;
        if self.json {
            plain::line(serde_json::json!({"model": model, "versions": versions}))?;
        } else {
            plain::line(page(&model, &versions))?;
        }
        Ok(Ended::Well)
    }
}

fn page(model: &Value, versions: &Value) -> String {
    let versions = plain::any::rows(&versions["data"], &COLUMNS, "no versions");
    format!("{}\n\n{versions}", plain::any::facts(model))
}
