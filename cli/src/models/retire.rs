use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Lets no new job name a version
///
/// Jobs that named it before still run. A version that an alias points to is refused: move the alias first. Repeating is
/// fine.
#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// Name of the model
    #[arg(value_parser = crate::ids::in_path)]
    model: String,
    /// Number of the version
    version: i32,
    #[command(flatten)]
    service: Service,
}

impl Retire {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/models/{}/versions/{}/retire", self.model, self.version);
        client.repeatable(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}
