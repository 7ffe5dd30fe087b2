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

fn show(text: &str, as_json: bool) -> Result<(), Failure> {
    plain::answer(text, as_json, plain::batch::page)?;
    let batch = plain::read_json(text)?;
    if !as_json && batch["counts"]["refused"].as_i64() > Some(0) {
        let id = plain::bare(&batch["id"]);
        eprintln!("note: some lines were refused; `darkroom batch results {id}` says why");
    }
    Ok(())
}

fn cannot_read(name: &str, error: &std::io::Error) -> CallError {
    CallError::Unreadable(format!("cannot read {name}: {error}"))
}
