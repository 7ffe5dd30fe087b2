use clap::Args;
use jobs::JobId;
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Shows a job: where it stands, what came of it, and how long each step took
///
/// Ends with 0 whatever became of the job: `--json` and its `status` tell scripts.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The job's id, `job_…`
    id: JobId,
    /// Show every attempt of a worker at it as well
    #[arg(long)]
    include_attempts: bool,
    /// The job as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Get {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let include = if self.include_attempts {
            "?include=attempts"
        } else {
            ""
        };
        let text = client
            .get(&format!("/v1/jobs/{}{include}", self.id))
            .await?;
        if self.json {
            plain::line(text.trim_end())?;
        } else {
            let job: Value = plain::read_json(&text)?;
            plain::line(plain::job::page(&job, self.include_attempts).trim_end())?;
        }
        Ok(Ended::Well)
    }
}
