use clap::Args;
use jobs::JobId;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Says why a job is where it is: what goes first, who could take it, when it may begin, what is in its way
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The job's id, `job_…`
    id: JobId,
    /// The explanation as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Explain {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = client.get(&format!("/v1/jobs/{}/explain", self.id)).await?;
        plain::answer(&text, self.json, plain::any::facts)?;
        Ok(Ended::Well)
    }
}
