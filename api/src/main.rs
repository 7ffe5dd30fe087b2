//! `darkroom-api`: takes images, queues jobs, answers what became of them. Never loads libtorch.

use api::{Config, run};
use clap::Parser;

/// Ten thousand waiters hold buffers of actix that are hardly touched; glibc made 1.6 times as much memory of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let config = Config::parse();
    jobs::telemetry::start_logs();
    match Box::pin(run(config)).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error.cause = format!("{error:#}"), "cannot go on");
            std::process::ExitCode::FAILURE
        }
    }
}
