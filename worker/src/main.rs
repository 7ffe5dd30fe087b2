//! `darkroom-worker`: see `--help`.

use std::process::ExitCode;

use clap::Parser;
use worker::config::Config;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    jobs::telemetry::start_logs();
    let code = match worker::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error.cause = format!("{error:#}"), "the worker ends");
            ExitCode::FAILURE
        }
    };
    // Not by returning: a forward pass cannot be interrupted, and nothing waits for its result any more.
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}
