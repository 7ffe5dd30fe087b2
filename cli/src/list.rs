use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{Client, Service},
};

/// Lists jobs, newest first
///
/// Prints a line for each job: its id, status, model, when it was submitted, and what came of it, separated by tabs. One
/// page unless `--all` is given.
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
    /// Only jobs with this word of yours; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Submitted from then on: a time (RFC 3339) or how long ago (`2h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = time)]
    after: Option<DateTime<Utc>>,
    /// Submitted before then
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<DateTime<Utc>>,
    /// How many a page
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

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or("want NAME=VALUE")
}

fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
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
            let page = client.get_json(&self.path(cursor.as_deref())).await?;
            for job in page["data"].as_array().into_iter().flatten() {
                plain::line(if self.json {
                    job.to_string()
                } else {
                    line(job)
                })?;
            }
            cursor = page["next_cursor"].as_str().map(ToOwned::to_owned);
            if cursor.is_none() || !self.all {
                break;
            }
        }
        if cursor.is_some() {
            eprintln!("note: there are more; --all lists them, --limit makes the page longer");
        }
        Ok(Ended::Well)
    }

    fn path(&self, cursor: Option<&str>) -> String {
        let stamp = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut query: Vec<(String, String)> = [
            ("status", self.status.clone()),
            ("model", self.model.clone()),
            ("task", self.task.clone()),
            ("batch_id", self.batch.clone()),
            ("created_after", self.after.as_ref().map(stamp)),
            ("created_before", self.before.as_ref().map(stamp)),
            ("limit", Some(self.limit.to_string())),
            ("cursor", cursor.map(ToOwned::to_owned)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
        let metadata = self.metadata.iter();
        query.extend(metadata.map(|(name, value)| (format!("metadata.{name}"), value.clone())));
        plain::path("/v1/jobs", &query)
    }
}

fn line(job: &Value) -> String {
    let facts = ["id", "status", "model", "created_at"].map(|name| plain::bare(&job[name]));
    format!("{}\t{}", facts.join("\t"), plain::job::outcome(job))
}
