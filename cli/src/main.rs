//! `darkroom`: the command of clients and operators.
//!
//! One subcommand, one file. Clients' commands speak REST; `keys create`, `migrate` and `models push` go straight to
//! Postgres and S3, because they are needed before there is a service or a key. Nothing here writes SQL: that is the crate
//! `jobs`.

mod batch;
mod bench;
mod cancel;
mod completions;
mod delete;
mod explain;
mod failure;
mod follow;
mod get;
mod ids;
mod keys;
mod list;
mod migrate;
mod models;
mod plain;
mod queues;
mod retry;
mod service;
mod stats;
mod stores;
mod submit;
mod usage;
mod wait;
mod watch;
mod webhooks;
mod workers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::{REFUSED, SOME_JOB_FAILED};

/// Submits images to Darkroom, fetches results, and looks after models, keys, queues and workers
///
/// Commands speak to the service (`DARKROOM_URL`, `DARKROOM_API_KEY`). Only `models push`, `keys create` and `migrate` go
/// straight to Postgres (`DATABASE_URL`), and `models push` to S3 (`AWS_…`): they work without a running service, and bring
/// the schema up to date first.
///
/// Results go to standard output, everything else to standard error. While the service is away or busy, commands try
/// again for a while (`--patience`); what is submitted twice by that is one job.
#[derive(Debug, Parser)]
#[command(name = "darkroom", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  darkroom submit --wait cat.jpg
  darkroom submit --wait --json photos/ > results.ndjson
  darkroom list --status failed --after 1h --all | darkroom retry -

Exit codes:
  0  all is done
  1  some job that was waited for did not succeed
  2  wrong usage, or a file that cannot be read
  3  the service, Postgres or S3 is away or busy: the same command may work later
  4  refused: the key, the request or an image is at fault, or the job is in another state
  5  there is no such job, model or other thing, or its data was deleted
  6  what was waited for took longer than --timeout";

#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Submit),
    Get(get::Get),
    Wait(wait::Wait),
    Watch(watch::Watch),
    List(list::List),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Explain(explain::Explain),
    Delete(delete::Delete),
    /// Submits many jobs in one request, and follows them together
    #[command(subcommand)]
    Batch(batch::Batch),
    /// Lists, registers, rolls out and retires models
    #[command(subcommand)]
    Models(models::Models),
    /// Makes, lists and revokes API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Receives news by HTTP: receivers, deliveries, secrets
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    Workers(workers::Workers),
    /// Pauses and resumes the queues of models
    #[command(subcommand)]
    Queues(queues::Queues),
    Stats(stats::Stats),
    Usage(usage::Usage),
    Bench(bench::Bench),
    Migrate(migrate::Migrate),
    Completions(completions::Completions),
}

impl Command {
    async fn run(self) -> Result<Ended, failure::Failure> {
        match self {
            Self::Submit(submit) => submit.run().await,
            Self::Get(get) => get.run().await,
            Self::Wait(wait) => wait.run().await,
            Self::Watch(watch) => watch.run().await,
            Self::List(list) => list.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::Retry(retry) => retry.run().await,
            Self::Explain(explain) => explain.run().await,
            Self::Delete(delete) => delete.run().await,
            Self::Batch(batch) => batch.run().await,
            Self::Models(models) => models.run().await,
            Self::Keys(keys) => keys.run().await,
            Self::Webhooks(webhooks) => webhooks.run().await,
            Self::Workers(workers) => workers.run().await,
            Self::Queues(queues) => queues.run().await,
            Self::Stats(stats) => stats.run().await,
            Self::Usage(usage) => usage.run().await,
            Self::Bench(bench) => bench.run().await,
            Self::Migrate(migrate) => migrate.run().await,
            Self::Completions(completions) => completions.run(),
        }
    }
}

/// How a command ended that ran to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    WithFailedJobs,
    WithRefusals,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command.run().await {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailedJobs) => SOME_JOB_FAILED.into(),
        Ok(Ended::WithRefusals) => REFUSED.into(),
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("{text}");
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// clap looks for it only where debug assertions are, and there is no such build (docs/adr/0001-one-build.md).
    #[test]
    fn no_argument_has_the_name_of_another() {
        fn look(command: &clap::Command) {
            let mut names: Vec<_> = command.get_arguments().map(clap::Arg::get_id).collect();
            names.sort();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{}: {names:?}", command.get_name());
            command.get_subcommands().for_each(look);
        }
        look(&super::Cli::command());
    }
}
