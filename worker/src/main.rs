//! `darkroom-worker`: see `--help`.

use clap::Parser;
use worker::config::Config;

#[tokio::main]
async fn main() {
    let config = Config::parse();
    jobs::telemetry::start_logs();
    let code = match Box::pin(worker::run(config)).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(error.cause = format!("{error:#}"), "the worker ends");
            1
        }
    };
    // Not by returning: a forward pass cannot be interrupted, and nothing waits for its result any more. Nor by `exit`, which
    // takes libtorch apart under it: now and then that was a segmentation fault.
    #[allow(unsafe_code)]
    // SAFETY: it ends the process, whatever its threads do. Each line of the log was written when it was made.
    unsafe {
        libc::_exit(code)
    }
}
