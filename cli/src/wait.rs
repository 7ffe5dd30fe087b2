//! Commands that follow jobs: `wait`, `watch`.

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use clap::Args;
use futures_util::{StreamExt, stream};
use jobs::JobId;
use serde_json::Value;
use wire::{Job, JobStatus, Stats};

use crate::{
    Ended,
    failure::Failure,
    job::Ids,
    queues,
    service::{CallError, Client, JobAnswer, Service},
    terminal,
};

/// Jobs to wait for at once, oldest first. The others end meanwhile, and then cost one request each.
pub(crate) const WAITING_MAX: usize = 16;
/// The service may ask for longer pauses than this; a follower does not sleep longer.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The longest pause if the service does not ask for any.
const UNASKED_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Clears the screen and moves the cursor to the top.
const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";

/// Waits until jobs have ended, and shows their results
///
/// Prints a line for each job, in the order given: its id, its status and its result, separated by tabs. Ends with 0 if all
/// succeeded, with 1 if some job did not, with 6 if `--timeout` ran out; then the jobs continue.
///
/// The service holds back each answer until the job changes: waiting costs little on both sides.
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
            let mut ended_jobs = stream::iter(&ids)
                .map(async |id| {
                    let first = client.job_now(&id.to_string()).await?;
                    until_ended(&client, first, |_| {}).await
                })
                .buffered(WAITING_MAX);
            let mut ended = Ended::Well;
            while let Some(answer) = ended_jobs.next().await {
                let answer = answer?;
                if has_failed(&answer.job) {
                    ended = Ended::WithFailedJobs;
                }
                if as_json {
                    terminal::json(&answer.json)?;
                } else {
                    terminal::line(terminal::job::line(&answer.job))?;
                }
            }
            Ok(ended)
        };
        match self.timeout {
            None => waiting.await,
            Some(timeout) => {
                let waited = tokio::time::timeout(timeout, waiting).await;
                waited.unwrap_or_else(|_| {
                    let timeout = humantime::format_duration(timeout);
                    let what = format!("after {timeout} some jobs have not ended; they continue");
                    Err(Failure::OutOfTime(what))
                })
            }
        }
    }
}

/// Shows a job, or all queues, as they change
///
/// A job: until it has ended; on a terminal a page that is drawn again, elsewhere a line for each change. Ends with 1 if the
/// job did not succeed. Without an id: waiting and running jobs, every few seconds, until Ctrl-C or, with `--until-idle`,
/// until there are none.
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
            Some(id) => self.watch_job(&client, id).await,
            None => self.watch_queues(&client).await,
        }
    }

    async fn watch_job(&self, client: &Client, id: JobId) -> Result<Ended, Failure> {
        let first = client.job_now(&id.to_string()).await?;
        let mut shown = Ok(());
        let last = until_ended(client, first, |JobAnswer { job, json, .. }| {
            if shown.is_ok() {
                let page = || terminal::job::page(job, true);
                shown = self.show(json, page, || change(job));
            }
        });
        let last = last.await?;
        shown?;
        Ok(if has_failed(&last.job) {
            Ended::WithFailedJobs
        } else {
            Ended::Well
        })
    }

    async fn watch_queues(&self, client: &Client) -> Result<Ended, Failure> {
        let mut ticks = tokio::time::interval(self.every.max(Duration::from_millis(100)));
        loop {
            ticks.tick().await;
            let text = client.get("/v1/stats").await?;
            let json: Value = terminal::read_json(&text)?;
            let stats: Stats = terminal::read_json(&text)?;
            self.show(&json, || queues::page(&stats), || queues::line(&stats))?;
            if self.until_idle && queues::is_idle(&stats) {
                return Ok(Ended::Well);
            }
        }
    }

    fn show(
        &self,
        json: &Value,
        page: impl Fn() -> String,
        line: impl Fn() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            terminal::json(json)
        } else if stdout().is_terminal() {
            let page = page();
            let page = terminal::clean(page.trim_end());
            terminal::raw(format!("{CLEAR_SCREEN}{page}"))
        } else {
            terminal::line(line())
        }
    }
}

/// `version`, `status`, and the outcome or the reason of the status.
fn change(job: &Job) -> String {
    let outcome = terminal::job::outcome(job);
    let news = if outcome.is_empty() {
        terminal::some(job.status_reason.as_ref())
    } else {
        outcome
    };
    let line = format!("{}\t{}\t{news}", job.version, job.status);
    line.trim_end().to_owned()
}

/// Follows a job until it has ended; returns at once if it has. `seen` gets each state of the job.
///
/// By long polling; without it, in pauses that double up to what `Retry-After` asks for.
pub(crate) async fn until_ended(
    client: &Client,
    first: JobAnswer,
    mut seen: impl FnMut(&JobAnswer),
) -> Result<JobAnswer, CallError> {
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(PAUSE_MAX)
        .without_max_times()
        .build();
    let mut latest = first;
    seen(&latest);
    while !latest.job.status.is_terminal() {
        if !latest.has_waited {
            let asked = latest.retry_after.unwrap_or(UNASKED_PAUSE_MAX);
            let pause = pauses.next().unwrap_or(PAUSE_MAX);
            tokio::time::sleep(pause.min(asked)).await;
        }
        let changed = client.changed_job(&latest.job.id, latest.etag.as_deref());
        if let Some(changed) = changed.await? {
            seen(&changed);
            latest = changed;
        }
    }
    Ok(latest)
}

/// Whether the job has ended without success.
pub(crate) fn has_failed(job: &Job) -> bool {
    job.status.is_terminal() && job.status != JobStatus::Succeeded
}
