//! `darkroom`: the command of clients and operators.
//!
//! One file for each noun, with its subcommands. Most commands speak REST. `keys create`, `migrate` and `models push --direct` use
//! Postgres and S3 directly, because they are needed before there is a service or a key. All SQL is in the crate `jobs`.

mod batches;
mod bench;
mod failure;
mod job;
mod keys;
mod models;
mod queues;
mod service;
mod stores;
mod submit;
mod terminal;
mod usage;
mod wait;
mod webhooks;
mod workers;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::{Shell, generate};
use failure::{REFUSED, SOME_JOB_FAILED};
use jobs::secret_files;

/// Submits images to Darkroom, fetches results, and looks after models, keys, queues and workers
///
/// Commands speak to the service (`DARKROOM_URL`, `DARKROOM_API_KEY`). Only `keys create`, `migrate` and `models push --direct`
/// use Postgres directly (`DATABASE_URL`), and `models push --direct` also S3 (`AWS_…`): they work without a running service,
/// and bring the schema up to date first.
///
/// Results go to standard output, everything else to standard error. While the service is away or busy, commands retry for
/// a while (`--patience`); an image that is sent twice by a retry is one job.
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
  0  success
  1  the command waited for jobs, and some job did not succeed
  2  wrong usage, or a file that cannot be read
  3  the service, Postgres or S3 is away or busy: the same command may work later
  4  refused: the key, the request or an image is wrong, or the status of the job does not allow it
  5  there is no such job, model or other object, or its data was deleted
  6  the jobs took longer than --timeout";

#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Submit),
    Get(job::Get),
    Wait(wait::Wait),
    Watch(wait::Watch),
    List(job::List),
    Cancel(job::Cancel),
    Retry(job::Retry),
    Explain(job::Explain),
    Delete(job::Delete),
    /// Submits many jobs in one request, and follows them together
    #[command(subcommand)]
    Batch(batches::Batches),
    /// Lists, checks, registers, rolls out and retires models
    #[command(subcommand)]
    Models(models::Models),
    /// Makes, lists and revokes API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Receives events by HTTP: receivers, deliveries, secrets
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    Workers(workers::Workers),
    /// Pauses and resumes the queues of models
    #[command(subcommand)]
    Queues(queues::Queues),
    Stats(queues::Stats),
    Usage(usage::Usage),
    Bench(bench::Bench),
    Migrate(stores::Migrate),
    Completions(Completions),
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
            Self::Models(models) => Box::pin(models.run()).await,
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

/// How a command ended that no error stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    WithFailedJobs,
    WithRefusals,
}

/// Writes a script that completes this command in your shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom completions bash > ~/.local/share/bash-completion/completions/darkroom
  darkroom completions zsh > \"${fpath[1]}/_darkroom\"
  darkroom completions fish > ~/.config/fish/completions/darkroom.fish")]
struct Completions {
    shell: Shell,
}

impl Completions {
    fn run(self) -> Result<Ended, failure::Failure> {
        let mut script = Vec::new();
        let mut command = secret_files::with_file_flags(Cli::command());
        generate(self.shell, &mut command, "darkroom", &mut script);
        terminal::raw(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Ended::Well)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match secret_files::parse::<Cli>().command.run().await {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailedJobs) => SOME_JOB_FAILED.into(),
        Ok(Ended::WithRefusals) => REFUSED.into(),
        Err(failure) => {
            if let Some(text) = failure.text() {
                terminal::note(text);
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// clap checks this only with debug assertions, which no build of this program has (docs/adr/0001-one-build.md).
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
