//! Commands over many jobs: ids on the command line or, one a line, on standard input.

use std::io::{self, BufRead};

use clap::Args;
use jobs::JobId;

use crate::{
    Ended,
    failure::Failure,
    plain,
    service::{CallError, Client},
};

#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// Ids of jobs, `job_…`; `-`: from standard input, one a line, what stands behind a tab does not count
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
                        ids.push(id(word)?);
                    }
                }
            } else {
                ids.push(id(&word)?);
            }
        }
        Ok(ids)
    }
}

/// The id or the name of something else, as it stands in a path of the service.
pub(crate) fn in_path(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("want an id or a name: letters, digits, `_`, `-` and `.`")
    }
}

fn id(word: &str) -> Result<JobId, Failure> {
    let wrong = |error| Failure::Usage(format!("`{word}` is not the id of a job: {error}"));
    word.parse().map_err(wrong)
}

/// Does the same with each job and prints a line for each; one that is refused does not stop the others.
pub(crate) async fn each(
    client: &Client,
    ids: Vec<JobId>,
    as_json: bool,
    verb: impl AsyncFn(&Client, JobId) -> Result<String, CallError>,
) -> Result<Ended, Failure> {
    let (alone, mut ended) = (ids.len() == 1, Ended::Well);
    for id in ids {
        match verb(client, id).await {
            Ok(answer) if as_json => plain::line(if answer.is_empty() {
                serde_json::json!({"id": id}).to_string()
            } else {
                answer
            })?,
            Ok(answer) if answer.is_empty() => plain::line(id)?,
            Ok(answer) => {
                let job = plain::read_json(&answer)?;
                plain::line(format!("{id}\t{}", plain::bare(&job["status"])))?;
            }
            Err(CallError::Refused(refusal))
                if !alone && matches!(refusal.status, 404 | 409 | 410) =>
            {
                ended = Ended::WithRefusals;
                eprintln!("error: {id}: {refusal}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}
