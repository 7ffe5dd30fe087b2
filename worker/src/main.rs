//! `darkroom-worker`: see `--help`.

use worker::config::Config;

#[tokio::main]
async fn main() {
    let config: Config = jobs::secret_files::parse();
    jobs::telemetry::start_logs();
    let code = match Box::pin(worker::run(config)).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(error.cause = format!("{error:#}"), "the worker ends");
            1
        }
    };
    // Not by returning: that would wait for a running forward pass, whose result is not needed. Not by `exit`: that destroys
    // libtorch while the pass runs, which sometimes was a segmentation fault.
    #[allow(unsafe_code)]
    // SAFETY: `_exit` ends the process and touches no memory. Each line of the log is already written.
    unsafe {
        libc::_exit(code)
    }
}
