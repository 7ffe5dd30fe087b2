use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
};

/// Ends an API key now; its jobs stay
///
/// To replace a key without a gap: create another for the same owner, hand it out, then revoke the old one. Needs a key
/// with the scope `admin`. Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// `ID` of `darkroom keys list`
    #[arg(value_parser = crate::ids::in_path)]
    id: String,
    #[command(flatten)]
    service: Service,
}

impl Revoke {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/api_keys/{}", self.id);
        client.repeatable(Method::DELETE, &path).await?;
        Ok(Ended::Well)
    }
}
