//! `darkroom-api`: stores images, queues jobs, serves results. Does not load libtorch.

use api::{Config, run};

// 10,000 long polls keep buffers of actix that are hardly used. They take 30 KiB each with glibc, and at most 18 KiB with mimalloc
// (`bench waiters`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let config: Config = jobs::secret_files::parse();
    jobs::telemetry::start_logs();
    match Box::pin(run(config)).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error.cause = format!("{error:#}"), "cannot go on");
            std::process::ExitCode::FAILURE
        }
    }
}
