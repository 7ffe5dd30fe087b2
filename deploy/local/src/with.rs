//! `darkroom-local with -- CMD`: starts a Postgres and an S3 server for one command.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use anyhow::Context as _;

use tokio::signal::unix::{SignalKind, signal};

use crate::{Credentials, Postgres, PostgresOptions, S3, S3Options, Signal, paths};

/// Starts both servers, runs `command`, stops both, and returns the exit code of `command`.
pub async fn with(command: Vec<OsString>, pg_bin: Option<PathBuf>) -> anyhow::Result<u8> {
    let folder = tempfile::Builder::new()
        .prefix("darkroom-with-")
        .tempdir()?;
    // The user of Postgres must pass through this folder to reach its own.
    paths::make_enterable(folder.path())?;
    let (postgres, s3) = tokio::try_join!(
        Postgres::start(PostgresOptions {
            data: folder.path().join("postgres"),
            log: folder.path().join("postgres.log"),
            bin: pg_bin,
        }),
        S3::start(S3Options {
            data: folder.path().join("objects"),
            log: folder.path().join("s3.log"),
            port: None,
            credentials: Credentials::generate(),
            program: std::env::current_exe()?,
        }),
    )?;
    let code = run(command, &postgres, &s3).await;
    s3.process
        .stop(Signal::SIGTERM, std::time::Duration::from_secs(5))
        .await;
    postgres.stop().await;
    code
}

async fn run(command: Vec<OsString>, postgres: &Postgres, s3: &S3) -> anyhow::Result<u8> {
    let mut words = command.into_iter();
    let program = words
        .next()
        .context("no command; say `darkroom-local with -- CMD …`")?;
    let mut command = tokio::process::Command::new(&program);
    command
        .args(words)
        .env("DATABASE_URL", postgres.url())
        .env_remove("DATABASE_DIRECT_URL") // it belongs to another database
        .env_remove("DATABASE_URL_FILE")
        .env_remove("DATABASE_DIRECT_URL_FILE")
        .env_remove("DATABASE_PASSWORD_FILE")
        .envs(s3.env());
    command.env("DARKROOM_BIN_DIR", paths::bin_dir()?);
    if let Some(path) = paths::ld_library_path() {
        command.env("LD_LIBRARY_PATH", path);
    }
    ignore_terminal_signals()?;
    let starting = || format!("starting {}", program.display());
    let status = command.status().await.with_context(starting)?;
    // As in a shell: a command that a signal ended has the exit code 128 + the number of the signal.
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Ctrl-C reaches the command as well. After the command has ended, the servers stop in order.
fn ignore_terminal_signals() -> anyhow::Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move { while signals.recv().await.is_some() {} });
    }
    Ok(())
}
