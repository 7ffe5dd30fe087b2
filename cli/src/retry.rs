use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    ids::{self, Ids},
    service::{Client, Service},
};

/// Runs jobs again that failed, expired or were canceled
///
/// The ids stay, and so does the history of the jobs; each gets a new budget of attempts. A job that succeeded is not
/// repeated: submit its image again, with `--no-cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom retry job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7
  darkroom list --status failed --after 2h --all | darkroom retry - | darkroom wait -")]
pub(crate) struct Retry {
    #[command(flatten)]
    ids: Ids,
    /// The jobs as the service wrote them, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Retry {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let ids = self.ids.read()?;
        let client = Client::new(self.service)?;
        ids::each(&client, ids, self.json, async |client, id| {
            let path = format!("/v1/jobs/{id}/retry");
            client.once_only(Method::POST, &path, None).await
        })
        .await
    }
}
