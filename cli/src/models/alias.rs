use clap::Args;
use serde_json::json;

use super::push::alias;
use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Points an alias of a model at a version: the way to roll one out, and back
///
/// The alias `default` is the one of jobs that name the model alone. Jobs that are submitted already keep their version.
/// Repeating is fine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom models alias resnet canary 8
  darkroom models alias resnet default 7      back again")]
pub(crate) struct Alias {
    /// Name of the model
    #[arg(value_parser = crate::ids::in_path)]
    model: String,
    /// `default`, or a name of yours
    #[arg(value_name = "ALIAS", value_parser = alias)]
    name: String,
    /// Number of the version: `darkroom models show MODEL` lists them
    version: i32,
    #[command(flatten)]
    service: Service,
}

impl Alias {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}/aliases/{}", self.model, self.name);
        client.put(&path, &json!({"version": self.version})).await?;
        Ok(Ended::Well)
    }
}
