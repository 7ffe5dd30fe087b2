use clap::Args;
use reqwest::Method;

use crate::{
    Ended,
    failure::Failure,
    ids::{self, Ids},
    service::{Client, Service},
};

/// Deletes what finished jobs were about: result, parameters, metadata, and the image once no other job needs it
///
/// The ids stay known for a while and answer 410. Nothing brings the data back. Prints the id of each job. Repeating is
/// fine; a job that has not ended is refused: cancel it first.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom list --before 30d --all | darkroom delete -")]
pub(crate) struct Delete {
    #[command(flatten)]
    ids: Ids,
    /// `{"id"}` for each job
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Delete {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let ids = self.ids.read()?;
        let client = Client::new(self.service)?;
        ids::each(&client, ids, self.json, async |client, id| {
            let path = format!("/v1/jobs/{id}");
            client.repeatable(Method::DELETE, &path).await
        })
        .await
    }
}
