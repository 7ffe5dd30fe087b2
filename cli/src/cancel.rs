use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    ids::{self, Ids},
    service::{Client, Service},
};

/// Cancels jobs: at once if they wait, as soon as their worker lets go if they run
///
/// Prints each id and where the job is now; `running` means that its worker has been asked. Repeating is fine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom cancel job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7
  darkroom list --status queued --model resnet --all | darkroom cancel -")]
pub(crate) struct Cancel {
    #[command(flatten)]
    ids: Ids,
    /// The jobs as the service wrote them, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Cancel {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let ids = self.ids.read()?;
        let client = Client::new(self.service)?;
        ids::each(&client, ids, self.json, async |client, id| {
            let path = format!("/v1/jobs/{id}/cancel");
            client.repeatable(Method::POST, &path).await
        })
        .await
    }
}
