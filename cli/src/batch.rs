//! `/v1/batches`: many jobs in one request, with one status and one list of results.

mod cancel;
mod create;
mod get;
mod results;
mod retry_failed;

use clap::Subcommand;
use serde_json::Value;

use crate::{Ended, failure::Failure, plain, service::CallError};

#[derive(Debug, Subcommand)]
pub(crate) enum Batch {
    Create(create::Create),
    Get(get::Get),
    Results(results::Results),
    Cancel(cancel::Cancel),
    RetryFailed(retry_failed::RetryFailed),
}

impl Batch {
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

/// Whether all its jobs have ended.
fn has_ended(batch: &Value) -> bool {
    batch["status"].is_string() && batch["status"] != "running"
}

fn ended(batch: &Value) -> Ended {
    if has_ended(batch) && batch["status"] != "succeeded" {
        Ended::WithFailedJobs
    } else {
        Ended::Well
    }
}

/// The batch with its counts, and how it can be looked at again.
fn show(text: &str, as_json: bool) -> Result<Value, Failure> {
    plain::answer(text, as_json, plain::any::facts)?;
    plain::read_json(text)
}

/// An id as it stands in a path: no more than letters, digits and `_`.
fn id(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("want the id of a batch")
    }
}

fn cannot_read(name: &str, error: &std::io::Error) -> CallError {
    CallError::Unreadable(format!("cannot read {name}: {error}"))
}
