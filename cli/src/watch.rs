use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use clap::Args;
use jobs::JobId;
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    follow, plain,
    service::{Client, Service},
};

/// Clears the screen and begins at its top.
const FROM_THE_TOP: &str = "\x1b[2J\x1b[H";

/// Shows a job, or all queues, as they change
///
/// A job: until it has ended; a page that is drawn anew on a terminal, a line for each change elsewhere. Ends with 1 if the
/// job did not succeed. Without an id: what waits and runs, every few seconds, until Ctrl-C or, with `--until-idle`, until
/// nothing is left.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom watch job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7
  darkroom watch --every 5s
  darkroom watch --until-idle && shutdown -h now")]
pub(crate) struct Watch {
    /// The job's id, `job_…`; all queues if left out
    id: Option<JobId>,
    /// Without an id: how often to look
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration, conflicts_with = "id")]
    every: Duration,
    /// Without an id: end as soon as nothing is queued or running
    #[arg(long, conflicts_with = "id")]
    until_idle: bool,
    /// Each state as a JSON document, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Watch {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service.clone())?;
        match self.id {
            Some(id) => self.job(&client, id).await,
            None => self.queues(&client).await,
        }
    }

    async fn job(&self, client: &Client, id: JobId) -> Result<Ended, Failure> {
        let first = client.job_now(&id.to_string()).await?;
        let mut shown = Ok(());
        let job = follow::until_ended(client, first, |job| {
            if shown.is_ok() {
                shown = self.show(job, |job| plain::job::page(job, true), moment);
            }
        });
        let job = job.await?;
        shown?;
        Ok(if follow::has_failed(&job) {
            Ended::WithFailedJobs
        } else {
            Ended::Well
        })
    }

    async fn queues(&self, client: &Client) -> Result<Ended, Failure> {
        let mut ticks = tokio::time::interval(self.every.max(Duration::from_millis(100)));
        loop {
            ticks.tick().await;
            let stats = client.get_json("/v1/stats").await?;
            self.show(&stats, plain::stats::page, plain::stats::line)?;
            if self.until_idle && plain::stats::is_idle(&stats) {
                return Ok(Ended::Well);
            }
        }
    }

    fn show(
        &self,
        news: &Value,
        page: impl Fn(&Value) -> String,
        line: impl Fn(&Value) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            plain::line(news)
        } else if stdout().is_terminal() {
            plain::line(format!("{FROM_THE_TOP}{}", page(news).trim_end()))
        } else {
            plain::line(line(news))
        }
    }
}

/// `version`, `status`, what came of it.
fn moment(job: &Value) -> String {
    let [version, status, reason] =
        ["version", "status", "status_reason"].map(|name| plain::bare(&job[name]));
    let outcome = plain::job::outcome(job);
    let news = if outcome.is_empty() { reason } else { outcome };
    format!("{version}\t{status}\t{news}").trim_end().to_owned()
}
