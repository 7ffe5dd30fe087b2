//! `darkroom submit`: images as jobs, with a journal that survives a kill.

mod journal;
mod progress;
mod run;
mod sources;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::{journal::Journal, progress::Progress, run::Run};
use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
    terminal,
};

/// Submits images, one job for each: files, whole folders, standard input, URLs
///
/// Prints one line for each image, in the order given: the id of its job; with `--wait` the id, the status, the file and
/// the result, separated by tabs. With `--json` the line is the job as a JSON document, or the problem if the image was
/// refused.
///
/// A refused image does not stop the others. The command stops if the service is away, or does not know the key or the
/// model.
///
/// No image becomes two jobs by accident. All tries of an image have one `Idempotency-Key`. A folder also has a journal: if
/// the command is killed and started again, it continues, and each photo is one job in the end. A journal belongs to one
/// folder, service, key, model and set of parameters. The command shows the jobs of photos that were submitted before, and
/// sends new and changed photos. `--again` submits all photos anew. Photos with the same bytes are one job.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Submit {
    /// Files, folders (with all that is below them), `-` for standard input, `https://…` (if the service fetches)
    #[arg(required = true, value_name = "FILE|DIR|-|URL")]
    sources: Vec<String>,
    /// NAME, NAME@ALIAS, NAME:VERSION or NAME@sha256:…; the service's default model if left out
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A parameter of the model; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    params: Vec<(String, String)>,
    /// Metadata of each job, to find it again (`list --metadata`); may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    metadata: Vec<(String, String)>,
    /// From -100 to 100; higher priorities run first. One above 0 needs a key that allows it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Ask for a new prediction, even if the service has made it before
    #[arg(long)]
    no_cache: bool,
    /// Wait until the jobs have ended, and show their results
    #[arg(long)]
    wait: bool,
    /// Draw each image on the terminal, with its result; implies --wait
    #[arg(long)]
    show: bool,
    /// One JSON document a line
    #[arg(long, visible_alias = "ndjson")]
    json: bool,
    /// How many images to send at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Keep the journal in this file; by default only folders have a journal, under `$XDG_STATE_HOME/darkroom/submit`
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Begin a new journal: submit all images, also those that were submitted before
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    service: Service,
}

const EXAMPLES: &str = "\
Examples:
  darkroom submit cat.jpg                                  prints the id of its job
  darkroom submit --wait --param top_k=3 *.jpg             the result of each, separated by tabs
  darkroom submit --show cat.jpg                           with a picture
  darkroom submit --wait --json photos/ > results.ndjson   a folder; run it again if it was interrupted
  curl -s https://example.org/x.jpg | darkroom submit --wait -
  darkroom submit photos/ | darkroom wait -                submit now, wait later";

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some(("model" | "priority", _)) => Err("there is an option for it, see --help"),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("want NAME=VALUE"),
    }
}

impl Submit {
    pub(crate) async fn run(mut self) -> Result<Ended, Failure> {
        self.wait |= self.show;
        let sources = sources::collect(&self.sources)?;
        let (query, journal) = (self.query(), self.open_journal()?);
        let client = Client::new(self.service.clone())?;
        let progress = Progress::new(sources.len(), if self.wait { "ended" } else { "submitted" });
        let run = Run::new(&self, &client, &journal, &query, &progress, sources.len());
        let outcome = run.submit_all(&sources).await;
        progress.finish();
        if outcome.is_err() && journal.is_kept() {
            terminal::note("note: run the same command again to continue");
        }
        outcome
    }

    fn query(&self) -> Vec<(String, String)> {
        let model = self
            .model
            .iter()
            .map(|model| ("model".to_owned(), model.clone()));
        let priority = self
            .priority
            .iter()
            .map(|priority| ("priority".to_owned(), priority.to_string()));
        let metadata = self
            .metadata
            .iter()
            .map(|(name, value)| (format!("metadata.{name}"), value.clone()));
        let params = self.params.iter().cloned();
        model
            .chain(priority)
            .chain(metadata)
            .chain(params)
            .collect()
    }

    fn open_journal(&self) -> Result<Journal, Failure> {
        if let Some(path) = &self.journal {
            return Journal::open(path, self.again);
        }
        let folders = self
            .sources
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.is_dir());
        let folders: Vec<_> = folders
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        if folders.is_empty() {
            return Ok(Journal::none());
        }
        let key = self.service.key_id();
        let about = json!([folders, self.service.url, key, self.query()]);
        Journal::open(&journal::default_path(&about)?, self.again)
    }
}
