//! `darkroom batch …`: many jobs in one request, with one status and one list of results.

use std::{fs, io, io::Read, path::PathBuf, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use clap::{Args, Subcommand};
use jobs::Sha256Digest;
use reqwest::Method;
use wire::{Batch, BatchStatus};

use crate::{
    Ended,
    failure::Failure,
    job::CURRENT_MODEL,
    service::{Client, Service, path_part},
    terminal,
};

/// A larger file is not sent in one request.
const BODY_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum Batches {
    Create(Create),
    Get(Get),
    Results(Results),
    Cancel(Cancel),
    RetryFailed(RetryFailed),
}

impl Batches {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::Get(get) => get.run().await,
            Self::Results(results) => results.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::RetryFailed(retry) => retry.run().await,
        }
    }
}

/// Submits many jobs in one request: NDJSON, one job a line
///
/// A line is a job as `POST /v1/jobs` takes it, with a `custom_id` of yours.
///
/// A refused line is reported with its number; the other lines become jobs. Sending the same file again within a day is the
/// same batch, unless `--again` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
A line:
  {\"custom_id\": \"8841-1\", \"model\": \"resnet\", \"image\": {\"sha256\": \"…\"}, \"params\": {\"top_k\": 3}}

Examples:
  darkroom batch create jobs.ndjson
  darkroom batch create --wait --json - < jobs.ndjson
For photos on this machine, `darkroom submit DIR` is simpler: it uploads them, and can be interrupted.")]
pub(crate) struct Create {
    /// The jobs; `-` for standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Make a new batch, even if the same file was sent before
    #[arg(long)]
    again: bool,
    /// Wait until all jobs of the batch have ended
    #[arg(long)]
    wait: bool,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Create {
    async fn run(self) -> Result<Ended, Failure> {
        let lines = self.read()?;
        let key = if self.again {
            uuid::Uuid::now_v7().to_string()
        } else {
            Sha256Digest::of(&lines).hex()
        };
        let client = Client::new(self.service)?;
        let text = client.submit_batch(lines.into(), &key).await?;
        let ended = show_now_or_ended(&client, text, self.wait, self.json).await?;
        Ok(if self.wait { ended } else { Ended::Well })
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let name = self.file.display().to_string();
        let mut lines = Vec::new();
        let read = if name == "-" {
            let mut input = io::stdin().lock().take(BODY_BYTES_MAX);
            input.read_to_end(&mut lines)
        } else {
            fs::File::open(&self.file)
                .and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut lines))
        };
        read.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
        if lines.len() as u64 == BODY_BYTES_MAX {
            let what = format!("{name} is larger than 1 GiB; split it");
            return Err(Failure::Usage(what));
        }
        Ok(lines)
    }
}

/// Shows a batch: its status, and how many of its jobs have which status
///
/// Ends with 1 if the batch has ended and not all its jobs succeeded.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The batch's id
    #[arg(value_parser = path_part)]
    id: String,
    /// Wait until all jobs of the batch have ended
    #[arg(long)]
    wait: bool,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Get {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let text = client.get(&format!("/v1/batches/{}", self.id)).await?;
        show_now_or_ended(&client, text, self.wait, self.json).await
    }
}

/// Writes what became of the lines of a batch, in their order, as NDJSON
///
/// Each line has its `custom_id`, its number, and either the `job` or the `error` for which there is no job. While the batch
/// runs, the output ends before the first line that has not ended; `--wait` goes on to the end, through broken connections.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  darkroom batch results --wait batch_0198f3c2a1b47d1e8c55a0f3d2e1b4c7 > results.ndjson")]
pub(crate) struct Results {
    /// The batch's id
    #[arg(value_parser = path_part)]
    id: String,
    /// Until all lines have ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    service: Service,
}

impl Results {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        client.print_batch_results(&self.id, self.wait).await?;
        Ok(Ended::Well)
    }
}

/// Cancels the jobs of a batch that have not ended
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The batch's id
    #[arg(value_parser = path_part)]
    id: String,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Cancel {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/batches/{}/cancel", self.id);
        let text = client.send_idempotent(Method::POST, &path).await?;
        show(&terminal::read_json(&text)?, &text, self.json)?;
        Ok(Ended::Well)
    }
}

/// Runs the failed jobs of a batch again
#[derive(Debug, Args)]
pub(crate) struct RetryFailed {
    /// The batch's id
    #[arg(value_parser = path_part)]
    id: String,
    /// Run on the version that the alias of each job means now, not on the version of its submit
    #[arg(long)]
    current_model: bool,
    /// The batch as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl RetryFailed {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let query = if self.current_model {
            CURRENT_MODEL
        } else {
            ""
        };
        let path = format!("/v1/batches/{}/retry_failed{query}", self.id);
        let text = client.post_once(&path).await?;
        show(&terminal::read_json(&text)?, &text, self.json)?;
        Ok(Ended::Well)
    }
}

/// Shows the batch as it is, or with `wait` at its end.
async fn show_now_or_ended(
    client: &Client,
    mut text: String,
    wait: bool,
    as_json: bool,
) -> Result<Ended, Failure> {
    // A batch may take hours.
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times();
    let mut batch: Batch = terminal::read_json(&text)?;
    for pause in pauses.build() {
        if !wait || batch.status.is_terminal() {
            break;
        }
        tokio::time::sleep(pause).await;
        text = client.get(&format!("/v1/batches/{}", batch.id)).await?;
        batch = terminal::read_json(&text)?;
    }
    show(&batch, &text, as_json)?;
    let has_failed = batch.status.is_terminal() && batch.status != BatchStatus::Succeeded;
    Ok(if has_failed {
        Ended::WithFailedJobs
    } else {
        Ended::Well
    })
}

fn show(batch: &Batch, text: &str, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return terminal::json(text);
    }
    terminal::line(page(batch))?;
    if batch.counts.refused > 0 {
        let id = &batch.id;
        terminal::note(format!(
            "note: some lines were refused; `darkroom batch results {id}` says why"
        ));
    }
    Ok(())
}

/// The id of the batch, its status, and its facts.
fn page(batch: &Batch) -> String {
    let counts = &batch.counts;
    // In the order in which lines pass through them.
    let parts = [
        (counts.scheduled, "scheduled"),
        (counts.queued, "queued"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.canceled, "canceled"),
        (counts.expired, "expired"),
        (counts.refused, "refused"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count != 0);
    let parts: Vec<_> = parts
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let facts = terminal::facts([
        ("lines", format!("{}: {}", counts.total, parts.join(", "))),
        ("upload", batch.upload.as_str().to_owned()),
        ("metadata", terminal::pairs(&batch.metadata)),
        ("created", wire::rfc3339(&batch.created_at)),
        ("finished", terminal::some_time(batch.finished_at.as_ref())),
    ]);
    let is_canceling = batch.cancel_requested && !batch.status.is_terminal();
    let canceling = if is_canceling {
        " (cancel requested)"
    } else {
        ""
    };
    format!(
        "{}  {}{canceling}\n\n{facts}",
        batch.id,
        batch.status.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::page;
    use serde_json::json;

    #[test]
    fn a_batch_begins_with_its_id_and_has_only_counts_that_are_not_zero() {
        let batch = json!({
            "id": "batch_1", "object": "batch", "status": "partly_failed", "upload": "complete", "metadata": {},
            "counts": {"total": 5, "queued": 0, "running": 0, "scheduled": 0, "succeeded": 3, "failed": 0, "canceled": 0, "expired": 0, "refused": 2},
            "created_at": "2026-01-31T12:00:00Z", "finished_at": null,
            "urls": {"self": "/", "results": "/", "jobs": "/", "cancel": "/", "retry_failed": "/"},
        });
        assert_eq!(
            page(&serde_json::from_value(batch).expect("a batch")),
            "batch_1  partly_failed\n\nlines    5: 3 succeeded, 2 refused\nupload   complete\n\
             created  2026-01-31T12:00:00.000000Z"
        );
    }
}
