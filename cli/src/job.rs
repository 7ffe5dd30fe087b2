//! Commands on submitted jobs: `get`, `list`, `explain`, `cancel`, `retry`, `delete`.

use std::io::{self, BufRead};

use chrono::{DateTime, Utc};
use clap::Args;
use jobs::JobId;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use wire::{Explanation, Job, Page};

use crate::{
    Ended,
    failure::Failure,
    service::{self, CallError, Client, Service},
    terminal,
};

/// Shows a job: its status, its result, and how long each step took
///
/// Ends with 0 for every status of the job: scripts read `status` of `--json`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The job's id, `job_…`
    id: JobId,
    /// Also show every attempt of a worker
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
        terminal::answer(&text, self.json, |job: &Job| {
            let page = terminal::job::page(job, self.include_attempts);
            page.trim_end().to_owned()
        })?;
        Ok(Ended::Well)
    }
}

/// Lists jobs, newest first
///
/// Prints a line for each job: its id, status, model, time of submit, and result or error, separated by tabs. One page
/// unless `--all` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom list --status failed --after 1h
  darkroom list --metadata listing=8841 --json
  darkroom list --status queued --model resnet --all | darkroom cancel -")]
pub(crate) struct List {
    /// `scheduled`, `queued`, `running`, `succeeded`, `failed`, `canceled` or `expired`
    #[arg(long)]
    status: Option<String>,
    /// Only jobs of this model, by its name
    #[arg(long)]
    model: Option<String>,
    /// Only jobs of this task: `classify`, `embed`, …
    #[arg(long)]
    task: Option<String>,
    /// Only jobs of this batch
    #[arg(long, value_name = "BATCH")]
    batch: Option<String>,
    /// Only jobs with this metadata; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    metadata: Vec<(String, String)>,
    /// Submitted at or after this time: RFC 3339, or how long ago (`2h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    after: Option<DateTime<Utc>>,
    /// Submitted before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<DateTime<Utc>>,
    /// Jobs a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Every page, not only the first
    #[arg(long)]
    all: bool,
    /// The jobs as JSON documents, one a line
    #[arg(long, visible_alias = "ndjson")]
    json: bool,
    #[command(flatten)]
    service: Service,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or("want NAME=VALUE")
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let then = chrono::Duration::from_std(ago).ok();
        return then
            .and_then(|ago| Utc::now().checked_sub_signed(ago))
            .ok_or("too long ago");
    }
    text.parse()
        .map_err(|_| "want a time like 2026-01-31T12:00:00Z, or how long ago: 2h, 7d")
}

impl List {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service.clone())?;
        let mut cursor = None;
        loop {
            let page: Page<Value> = client.get_json(&self.path(cursor.as_deref())).await?;
            for json in &page.data {
                if self.json {
                    terminal::json(json)?;
                } else {
                    terminal::line(list_line(&read_job(json)?))?;
                }
            }
            cursor = page.next_cursor;
            // A page of a filtered list may be empty and have a next one.
            if cursor.is_none() || !self.all && !page.data.is_empty() {
                break;
            }
        }
        if cursor.is_some() {
            terminal::note(
                "note: there are more jobs; --all lists them, --limit makes the page longer",
            );
        }
        Ok(Ended::Well)
    }

    fn path(&self, cursor: Option<&str>) -> String {
        let mut query: Vec<(String, String)> = [
            ("status", self.status.clone()),
            ("model", self.model.clone()),
            ("task", self.task.clone()),
            ("batch_id", self.batch.clone()),
            ("created_after", self.after.as_ref().map(wire::rfc3339)),
            ("created_before", self.before.as_ref().map(wire::rfc3339)),
            ("limit", Some(self.limit.to_string())),
            ("cursor", cursor.map(ToOwned::to_owned)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
        let metadata = self.metadata.iter();
        query.extend(metadata.map(|(name, value)| (format!("metadata.{name}"), value.clone())));
        service::path("/v1/jobs", &query)
    }
}

fn read_job(json: &Value) -> Result<Job, CallError> {
    Job::deserialize(json).map_err(|error| CallError::Away {
        what: format!("cannot read a job of the list: {error}"),
        may_have_arrived: true,
    })
}

fn list_line(job: &Job) -> String {
    let (created_at, outcome) = (wire::rfc3339(&job.created_at), terminal::job::outcome(job));
    format!(
        "{}\t{}\t{}\t{created_at}\t{outcome}",
        job.id, job.status, job.model
    )
}

/// Shows why a job has its status: jobs ahead, workers, expected start, what blocks it
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
        terminal::answer(&text, self.json, |explanation: &Explanation| {
            terminal::fields(explanation)
        })?;
        Ok(Ended::Well)
    }
}

/// Cancels jobs: waiting jobs at once, running jobs as soon as their worker stops
///
/// Prints each id and the status of the job; `running` means that the worker has been asked to stop. Repeating is fine.
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
        for_each(&client, ids, self.json, async |client, id| {
            let path = format!("/v1/jobs/{id}/cancel");
            client.send_idempotent(Method::POST, &path).await
        })
        .await
    }
}

/// Runs jobs again that failed, expired or were canceled
///
/// The jobs keep their ids and their history; each gets a new budget of attempts. A job that succeeded is not repeated:
/// submit its image again, with `--no-cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom retry job_0198f3c2a1b47d1e8c55a0f3d2e1b4c7
  darkroom list --status failed --after 2h --all | darkroom retry - | darkroom wait -
  darkroom list --status failed --model resnet --all | darkroom retry --current-model -")]
pub(crate) struct Retry {
    #[command(flatten)]
    ids: Ids,
    /// Run on the version that the job's alias means now, not on the version of its submit
    #[arg(long)]
    current_model: bool,
    /// The jobs as the service wrote them, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

/// The query of a retry on the current version.
pub(crate) const CURRENT_MODEL: &str = "?model=current";

impl Retry {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let ids = self.ids.read()?;
        let client = Client::new(self.service)?;
        for_each(&client, ids, self.json, async |client, id| {
            let query = if self.current_model {
                CURRENT_MODEL
            } else {
                ""
            };
            client
                .post_once(&format!("/v1/jobs/{id}/retry{query}"))
                .await
        })
        .await
    }
}

/// Deletes the data of finished jobs: result, parameters, metadata, and the image once no other job needs it
///
/// The service remembers the ids for a while and answers 410. Deleted data cannot be restored. Prints the id of each job.
/// Repeating is fine. A job that has not ended is refused: cancel it first.
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
        for_each(&client, ids, self.json, async |client, id| {
            let path = format!("/v1/jobs/{id}");
            client.send_idempotent(Method::DELETE, &path).await
        })
        .await
    }
}

/// The jobs of a command: ids on the command line or on standard input.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// Ids of jobs, `job_…`; `-` reads them from standard input, one a line, and ignores everything after a tab
    #[arg(required = true, value_name = "ID|-")]
    ids: Vec<String>,
}

impl Ids {
    pub(crate) fn read(self) -> Result<Vec<JobId>, Failure> {
        let mut ids = Vec::new();
        for word in self.ids {
            if word == "-" {
                for line in io::stdin().lock().lines() {
                    let line = line
                        .map_err(|error| Failure::Usage(format!("cannot read the ids: {error}")))?;
                    let word = line.split('\t').next().unwrap_or_default().trim();
                    if !word.is_empty() {
                        ids.push(parse_id(word)?);
                    }
                }
            } else {
                ids.push(parse_id(&word)?);
            }
        }
        Ok(ids)
    }
}

fn parse_id(word: &str) -> Result<JobId, Failure> {
    let wrong = |error| Failure::Usage(format!("`{word}` is not the id of a job: {error}"));
    word.parse().map_err(wrong)
}

/// Calls `verb` with each job and prints a line for each; among several jobs, a refused one does not stop the others.
async fn for_each(
    client: &Client,
    ids: Vec<JobId>,
    as_json: bool,
    verb: impl AsyncFn(&Client, JobId) -> Result<String, CallError>,
) -> Result<Ended, Failure> {
    let (is_alone, mut ended) = (ids.len() == 1, Ended::Well);
    for id in ids {
        match verb(client, id).await {
            Ok(answer) if as_json && answer.is_empty() => terminal::json(json!({"id": id}))?,
            Ok(answer) if as_json => terminal::json(answer)?,
            Ok(answer) if answer.is_empty() => terminal::line(id)?,
            Ok(answer) => {
                let job: Job = terminal::read_json(&answer)?;
                terminal::line(format!("{id}\t{}", job.status))?;
            }
            Err(CallError::Refused(refusal))
                if !is_alone && matches!(refusal.status, 404 | 409 | 410 | 422) =>
            {
                ended = Ended::WithRefusals;
                terminal::note(format!("error: {id}: {refusal}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}
