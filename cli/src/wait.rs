use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    follow,
    ids::Ids,
    plain,
    service::{Client, Service},
};

/// Jobs that are waited for at once; the others end meanwhile and then cost one request each.
const WAITING_MAX: usize = 16;

/// Waits until jobs have ended, and shows what came of them
///
/// Prints a line for each job, in the order given: its id, its status and its result, separated by tabs. Ends with 0 if all
/// succeeded, with 1 if some job did not, with 6 if `--timeout` ran out; the jobs go on then.
///
/// The service holds each question back until there is news: waiting costs next to nothing, here and there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom wait job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7
  darkroom submit photos/ | darkroom wait --timeout 10m -
  darkroom wait --json - < ids | jq -r 'select(.status != \"succeeded\") | .error.detail'")]
pub(crate) struct Wait {
    #[command(flatten)]
    ids: Ids,
    /// Wait no longer than this: `90s`, `10m`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// The jobs as JSON documents, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Wait {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let ids = self.ids.read()?;
        let client = Client::new(self.service)?;
        let as_json = self.json;
        let waiting = async {
            let mut ended = stream::iter(&ids)
                .map(async |id| {
                    let first = client.job_now(&id.to_string()).await?;
                    follow::until_ended(&client, first, |_| {}).await
                })
                .buffered(WAITING_MAX);
            let mut came_to = Ended::Well;
            while let Some(job) = ended.next().await {
                let job = job?;
                if follow::has_failed(&job) {
                    came_to = Ended::WithFailedJobs;
                }
                plain::line(if as_json { job.to_string() } else { line(&job) })?;
            }
            Ok(came_to)
        };
        match self.timeout {
            None => waiting.await,
            Some(timeout) => {
                let waited = tokio::time::timeout(timeout, waiting).await;
                waited.unwrap_or_else(|_| {
                    let timeout = humantime::format_duration(timeout);
                    let what = format!("after {timeout} some jobs have not ended; they go on");
                    Err(Failure::OutOfTime(what))
                })
            }
        }
    }
}

fn line(job: &Value) -> String {
    let (id, status) = (plain::bare(&job["id"]), plain::bare(&job["status"]));
    format!("{id}\t{status}\t{}", plain::job::outcome(job))
}
