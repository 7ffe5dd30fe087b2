use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Asks a worker to claim nothing more, to finish what it has, and to leave
///
/// Does not wait for it; `darkroom workers` shows how far it is. Repeating is fine.
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// `ID` of `darkroom workers`
    id: i64,
    #[command(flatten)]
    service: Service,
}

impl Drain {
    pub(super) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/workers/{}/drain", self.id);
        client.repeatable(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}
