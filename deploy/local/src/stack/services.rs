//! How an API and a worker are started and when they are ready.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::control::Wish;
use super::env_file::Env;
use super::layout::Layout;
use crate::process::{Process, Program};
use crate::{Signal, ports};

/// Migrations of a large database, or a first load of libtorch from a slow disk.
const READY_WITHIN: Duration = Duration::from_mins(3);

/// One process of ours, and the URL that says when it is ready.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) process: Process,
    pub(super) place: String,
    ready_url: String,
}

impl Service {
    pub(super) async fn wait_ready(&self) -> anyhow::Result<()> {
        self.process.wait_ready(&self.ready_url, READY_WITHIN).await
    }
}

/// Starts `api-NUMBER`. `shared` is what every service of the stack gets.
pub(super) async fn start_api(
    layout: &Layout,
    wish: &Wish,
    shared: &Env,
    number: u16,
) -> anyhow::Result<Service> {
    let port = wish
        .port
        .checked_add(number - 1)
        .context("--port is too high")?;
    // A predecessor may be about to leave; anybody else stays.
    let mut patience = 100;
    while !ports::is_free(port) {
        if patience == 0 {
            bail!("port {port} is taken by another process; choose another with --port");
        }
        patience -= 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let listen = format!("127.0.0.1:{port}");
    let metrics = address(wish, "DARKROOM_METRICS_LISTEN", number)?;
    let process = program(wish, "darkroom-api", shared)
        .env("DARKROOM_LISTEN", &listen)
        .env("DARKROOM_METRICS_LISTEN", &metrics)
        .spawn(&layout.log(&format!("api-{number}")))?;
    let place = format!("http://{listen} (metrics http://{metrics})");
    Ok(Service {
        process,
        place,
        ready_url: format!("http://{listen}/readyz"),
    })
}

/// Starts `worker-NUMBER`.
pub(super) fn start_worker(
    layout: &Layout,
    wish: &Wish,
    shared: &Env,
    number: u16,
) -> anyhow::Result<Service> {
    let health = address(wish, "DARKROOM_HEALTH_LISTEN", number)?;
    let mut program =
        program(wish, "darkroom-worker", shared).env("DARKROOM_HEALTH_LISTEN", &health);
    if !wish.env.contains_key("DARKROOM_MODEL_CACHE_DIR") {
        program = program.env("DARKROOM_MODEL_CACHE_DIR", layout.model_cache());
    }
    let process = program.spawn(&layout.log(&format!("worker-{number}")))?;
    let place = format!("health and metrics http://{health}");
    Ok(Service {
        process,
        place,
        ready_url: format!("http://{health}/readyz"),
    })
}

/// A program of ours, with the caller's environment and the stack's on top.
pub(super) fn program(wish: &Wish, name: &str, shared: &Env) -> Program {
    Program::new(wish.bin.join(name))
        .env_clear()
        .env("DARKROOM_S3_CREATE_BUCKET", "true") // unless the caller says otherwise
        .envs(&wish.env)
        .env_remove("DATABASE_DIRECT_URL") // the stack says whether it is of the same database
        .envs(shared.iter().map(|(name, value)| (name, value)))
        .dies_with_us_by(Signal::SIGTERM)
}

/// Where a further process listens that somebody starts with `.local/env`: ours have their places already.
pub(super) const ANY_PORT: &str = "127.0.0.1:0";
pub(super) const FURTHER: [&str; 3] = [
    "DARKROOM_LISTEN",
    "DARKROOM_METRICS_LISTEN",
    "DARKROOM_HEALTH_LISTEN",
];

/// The caller's choice for the first of a kind, a free port for all others.
fn address(wish: &Wish, variable: &str, number: u16) -> anyhow::Result<String> {
    match wish.env.get(variable) {
        Some(chosen) if number == 1 && chosen != ANY_PORT => Ok(chosen.clone()),
        _ => Ok(format!("127.0.0.1:{}", ports::free_port()?)),
    }
}
