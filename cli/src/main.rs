//! `darkroom`: the command of clients and operators.
//!
//! One subcommand, one file. Clients' commands speak REST; `keys`, `migrate` and `models push` go straight to Postgres and
//! S3, because they are needed before there is a service or a key. Nothing here writes SQL: that is the crate `jobs`.

mod failure;
mod get;
mod keys;
mod migrate;
mod models;
mod plain;
mod service;
mod stores;
mod submit;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::SOME_JOB_FAILED;

/// Submits images to Darkroom, fetches results, and looks after models, keys and the schema
///
/// `submit`, `get` and `models list` speak to the service (`DARKROOM_URL`, `DARKROOM_API_KEY`). `models push`,
/// `keys create` and `migrate` go straight to Postgres (`DATABASE_URL`), and `models push` to S3 (`AWS_…`): they work
/// without a running service, and bring the schema up to date first.
///
/// Results go to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "darkroom", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all is done
  1  some job that was waited for did not succeed
  2  wrong usage, or a file that cannot be read: nothing was sent
  3  the service, Postgres or S3 cannot be reached, or refused";

#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Submit),
    Get(get::Get),
    /// Lists and registers models
    #[command(subcommand)]
    Models(models::Models),
    /// Makes API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    Migrate(migrate::Migrate),
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
    let ended = match Cli::parse().command {
        Command::Submit(submit) => submit.run().await,
        Command::Get(get) => get.run().await,
        Command::Models(models) => models.run().await,
        Command::Keys(keys) => keys.run().await,
        Command::Migrate(migrate) => migrate.run().await,
    };
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::WithFailedJobs) => SOME_JOB_FAILED.into(),
        Ok(Ended::WithRefusals) => failure::NOT_SERVED.into(),
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

    #[test]
    fn the_flags_fit_together() {
        super::Cli::command().debug_assert();
    }
}
