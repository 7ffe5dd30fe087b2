//! Starts an API or a worker, and waits until it is ready.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::control::DesiredStack;
use super::env_file::Env;
use super::layout::Layout;
use crate::process::{Process, Program};
use crate::{Signal, ports};

/// An API may migrate a large database first; a worker may load libtorch from a slow disk.
const READY_WITHIN: Duration = Duration::from_mins(3);

/// An API or worker process, and the URL that answers 200 when the process is ready.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) process: Process,
    pub(super) location: String,
    ready_url: String,
}

impl Service {
    pub(super) async fn wait_ready(&self) -> anyhow::Result<()> {
        self.process.wait_ready(&self.ready_url, READY_WITHIN).await
    }
}

/// Starts `api-NUMBER`. `shared` is the environment that all services have in common.
pub(super) async fn start_api(
    layout: &Layout,
    desired: &DesiredStack,
    shared: &Env,
    number: u16,
) -> anyhow::Result<Service> {
    let port = desired
        .port
        .checked_add(number - 1)
        .context("--port is too high")?;
    // An earlier API that is shutting down frees its port soon. Any other process keeps the port.
    let mut attempts_left = 100;
    while !ports::is_free(port) {
        if attempts_left == 0 {
            bail!("another process uses port {port}; choose another port with --port");
        }
        attempts_left -= 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let listen = format!("127.0.0.1:{port}");
    let metrics = address(desired, "DARKROOM_METRICS_LISTEN", number)?;
    let process = program(desired, "darkroom-api", shared)
        .env("DARKROOM_LISTEN", &listen)
        .env("DARKROOM_METRICS_LISTEN", &metrics)
        .spawn(&layout.log(&format!("api-{number}")))?;
    let location = format!("http://{listen} (metrics http://{metrics})");
    Ok(Service {
        process,
        location,
        ready_url: format!("http://{listen}/readyz"),
    })
}

/// Starts `worker-NUMBER`. `shared` is the environment that all services have in common.
pub(super) fn start_worker(
    layout: &Layout,
    desired: &DesiredStack,
    shared: &Env,
    number: u16,
) -> anyhow::Result<Service> {
    let health = address(desired, "DARKROOM_HEALTH_LISTEN", number)?;
    let mut program =
        program(desired, "darkroom-worker", shared).env("DARKROOM_HEALTH_LISTEN", &health);
    if !desired.env.contains_key("DARKROOM_MODEL_CACHE_DIR") {
        program = program.env("DARKROOM_MODEL_CACHE_DIR", layout.model_cache());
    }
    let process = program.spawn(&layout.log(&format!("worker-{number}")))?;
    let location = format!("health and metrics http://{health}");
    Ok(Service {
        process,
        location,
        ready_url: format!("http://{health}/readyz"),
    })
}

/// A Darkroom program. Its environment is that of the client, overridden by that of the stack.
pub(super) fn program(desired: &DesiredStack, name: &str, shared: &Env) -> Program {
    Program::new(desired.bin.join(name))
        .env_clear()
        .env("DARKROOM_S3_CREATE_BUCKET", "true") // the environment of the client can override this
        .envs(&desired.env)
        .env_remove("DATABASE_DIRECT_URL") // `shared` has it if it belongs to the database of the stack
        .env_remove("DATABASE_URL_FILE")
        .env_remove("DATABASE_DIRECT_URL_FILE")
        .envs(shared.iter().map(|(name, value)| (name, value)))
        .with_death_signal(Signal::SIGTERM)
}

/// `.local/env` sets [`LISTEN_VARIABLES`] to this: the ports of the stack are taken, so a further process
/// that a user starts gets any free port.
pub(super) const ANY_PORT: &str = "127.0.0.1:0";
pub(super) const LISTEN_VARIABLES: [&str; 3] = [
    "DARKROOM_LISTEN",
    "DARKROOM_METRICS_LISTEN",
    "DARKROOM_HEALTH_LISTEN",
];

/// Listen address of process NUMBER: the first one gets the address in `variable`, the others a free port.
fn address(desired: &DesiredStack, variable: &str, number: u16) -> anyhow::Result<String> {
    match desired.env.get(variable) {
        Some(chosen) if number == 1 && chosen != ANY_PORT => Ok(chosen.clone()),
        _ => Ok(format!("127.0.0.1:{}", ports::free_port()?)),
    }
}
