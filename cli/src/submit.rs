use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::Value;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{CallError, Client, Service},
    wait,
};

/// Submits images, one job for each
///
/// Prints one line for each image, in the order given: the id of its job; with `--wait` the id, the status, the file and
/// the result, separated by tabs. With `--json` the line is the job as a JSON document, or the problem if the image was
/// refused.
///
/// All files are looked at before the first is sent. An image that the service refuses does not stop the others; a
/// service that is away, or does not know the key or the model, does: then no further image is sent.
///
/// An image answered by 429 or 503 with `Retry-After` is sent again, a few times.
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Images: JPEG, PNG, WebP or GIF by their bytes, whatever their names
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// NAME, NAME@ALIAS, NAME:VERSION or NAME@sha256:…; the service's default model if left out
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A parameter of the model; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    params: Vec<(String, String)>,
    /// Wait until the jobs have ended, and show what came of them
    #[arg(long)]
    wait: bool,
    /// One JSON document a line
    #[arg(long)]
    json: bool,
    /// How many images are under way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    #[command(flatten)]
    service: Service,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some(("model", _)) => Err("say --model"),
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("want NAME=VALUE"),
    }
}

impl Submit {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        for file in &self.files {
            readable(file)?;
        }
        let model = self
            .model
            .iter()
            .map(|model| ("model".to_owned(), model.clone()));
        let query: Vec<_> = model.chain(self.params.iter().cloned()).collect();
        let client = Client::new(self.service.clone())?;
        // Set by an answer that concerns all images: what is under way still gets its line, nothing more is sent.
        let stop = AtomicBool::new(false);
        let (stop, client, query) = (&stop, &client, &query);
        let mut answers = stream::iter(&self.files)
            .map(async |file| {
                if stop.load(Relaxed) {
                    return None;
                }
                let answer = self.submit(client, file, query).await;
                if answer
                    .as_ref()
                    .is_err_and(|error| !concerns_one_image(error))
                {
                    stop.store(true, Relaxed);
                }
                Some((file, answer))
            })
            .buffered(self.concurrency.into());
        let (mut refused, mut failed, mut stopped) = (false, false, None);
        while let Some(answered) = answers.next().await {
            match answered {
                Some((file, Ok(job))) => {
                    failed |= wait::has_ended(&job) && job["status"] != "succeeded";
                    plain::line(self.line(file, &job))?;
                }
                Some((file, Err(CallError::Refused(refusal)))) if refusal.concerns_one_image() => {
                    refused = true;
                    if self.json {
                        plain::line(&refusal.problem)?;
                    } else {
                        eprintln!("error: {}: {refusal}", file.display());
                    }
                }
                Some((_, Err(error))) => stopped = stopped.or(Some(error)),
                None => {}
            }
        }
        if let Some(error) = stopped {
            return Err(error.into());
        }
        Ok(match (refused, failed) {
            (true, _) => Ended::WithRefusals,
            (false, true) => Ended::WithFailedJobs,
            (false, false) => Ended::Well,
        })
    }

    async fn submit(
        &self,
        client: &Client,
        file: &Path,
        query: &[(String, String)],
    ) -> Result<Value, CallError> {
        let accepted = client.submit(file, query, self.wait).await?;
        if self.wait {
            wait::until_ended(client, accepted).await
        } else {
            Ok(accepted.job)
        }
    }

    fn line(&self, file: &Path, job: &Value) -> String {
        let id = job["id"].as_str().unwrap_or("?");
        if self.json {
            job.to_string()
        } else if self.wait {
            let status = job["status"].as_str().unwrap_or("?");
            let came_of_it = plain::job::outcome(job);
            format!("{id}\t{status}\t{}\t{came_of_it}", file.display())
        } else {
            id.to_owned()
        }
    }
}

fn concerns_one_image(error: &CallError) -> bool {
    matches!(error, CallError::Refused(refusal) if refusal.concerns_one_image())
}

fn readable(file: &Path) -> Result<(), Failure> {
    let cannot = |error| Failure::Usage(format!("cannot read {}: {error}", file.display()));
    let opened = std::fs::File::open(file).map_err(cannot)?;
    if opened.metadata().map_err(cannot)?.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a folder; name the images in it",
            file.display()
        )));
    }
    Ok(())
}
