//! Starts child processes with a log file, signals them, and waits for them.
//!
//! Each child has its own process group. So Ctrl-C reaches only this process, which stops its
//! children in order. The kernel ends all children when this process ends for any reason.

mod log_file;
mod spawner;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::account::Account;
use crate::ports;

/// A program to start. Its standard input is empty. Standard output and standard error go to the log.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    command: Command,
    death_signal: Signal,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut command = Command::new(&path);
        command.stdin(Stdio::null());
        Self {
            path,
            command,
            death_signal: Signal::SIGKILL,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.command.envs(vars);
        self
    }

    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Removes the inherited environment.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// The signal that the child gets when this process has ended. SIGKILL unless set.
    #[must_use]
    pub fn with_death_signal(mut self, death_signal: Signal) -> Self {
        self.death_signal = death_signal;
        self
    }

    /// Runs the program as another user. Needs root.
    #[must_use]
    pub(crate) fn run_as(mut self, account: Option<&Account>) -> Self {
        if let Some(account) = account {
            account.apply(&mut self.command);
        }
        self
    }

    /// Starts the program. Its output is appended to `log`, each line as JSON.
    pub fn spawn(mut self, log: &Path) -> anyhow::Result<Process> {
        let (log_reader, log_writer) = std::io::pipe()?;
        self.command
            .stdout(log_writer.try_clone()?)
            .stderr(log_writer);
        let logged = log_file::append(log_reader, log)?;
        let mut child = spawner::spawn(self.command, self.death_signal)
            .with_context(|| format!("starting {}", self.path.display()))?;
        let name: OsString = self.path.file_name().unwrap_or_default().to_owned();
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let (ended, state) = watch::channel(None);
        let reap_state = Arc::new(ReapState::default());
        let reaper_state = Arc::clone(&reap_state);
        std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                spawner::wait_without_reaping(pid);
                // Under the lock: `signal` must not reach another process that got this pid.
                let mut reaped = reaper_state
                    .reaped
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                ended.send_replace(child.wait().ok());
                *reaped = true;
                reaper_state.changed.notify_all();
            })?;
        Ok(Process {
            name,
            pid,
            log: log.to_owned(),
            state,
            reap_state,
            logged,
        })
    }
}

/// Whether the exit status of the child was collected. Afterwards another process may get its pid.
#[derive(Debug, Default)]
struct ReapState {
    reaped: Mutex<bool>,
    changed: Condvar,
}

/// A child process, running or ended. Dropping it kills the child.
#[derive(Debug)]
pub struct Process {
    name: OsString,
    pid: Pid,
    log: PathBuf,
    state: watch::Receiver<Option<ExitStatus>>,
    reap_state: Arc<ReapState>,
    logged: log_file::LogWriter,
}

impl Process {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub fn is_running(&self) -> bool {
        self.state.borrow().is_none() && self.state.has_changed().is_ok()
    }

    /// Sends a signal to the child, but not to its own children. Does nothing if the child has ended.
    pub fn signal(&self, signal: Signal) {
        let reaped = self
            .reap_state
            .reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            let _ = signal::kill(self.pid, signal);
        }
    }

    /// Sends SIGKILL and waits for the end of the child.
    pub async fn kill(&self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// Waits for the exit status. The future does not borrow `self`, so a task can keep it.
    pub(crate) fn exit_status(&self) -> impl Future<Output = ExitStatus> + use<> {
        let mut state = self.state.clone();
        async move {
            let ended = state.wait_for(Option::is_some).await;
            ended.ok().and_then(|status| *status).unwrap_or_default()
        }
    }

    /// Waits until the child has ended and its output is in the log.
    pub async fn wait(&self) -> ExitStatus {
        let status = self.exit_status().await;
        // With a limit, because a grandchild may keep the output open.
        let _ = timeout(Duration::from_secs(1), self.logged.complete()).await;
        status
    }

    /// As [`Process::wait`]; `None` if the child runs longer than `limit`.
    pub async fn wait_for(&self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.wait()).await.ok()
    }

    /// Waits for the end of the child at most `limit`. Needs no async runtime: for destructors.
    pub(crate) fn block_until_ended(&self, limit: Duration) {
        let reaped = self
            .reap_state
            .reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(
            self.reap_state
                .changed
                .wait_timeout_while(reaped, limit, |reaped| !*reaped),
        );
    }

    /// Sends `signal`, waits up to `grace`, and then kills the child if it still runs.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> ExitStatus {
        self.signal(signal);
        match self.wait_for(grace).await {
            Some(status) => status,
            None => self.kill().await,
        }
    }

    /// The text of the log file. It may begin with the output of earlier processes.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `GET url` succeeds.
    ///
    /// # Errors
    /// The child ended, or `limit` has passed. The text contains the end of the log.
    pub async fn wait_ready(&self, url: &str, limit: Duration) -> anyhow::Result<()> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(2))
            .build()?;
        self.wait_until(url, limit, || async {
            http.get(url)
                .send()
                .await
                .is_ok_and(|response| response.status().is_success())
        })
        .await
    }

    /// Waits until a server listens on `port` of 127.0.0.1. Fails as [`Process::wait_ready`].
    pub async fn wait_listening(&self, port: u16, limit: Duration) -> anyhow::Result<()> {
        let address = format!("127.0.0.1:{port}");
        self.wait_until(&address, limit, || async {
            ports::accepts_connections(port)
        })
        .await
    }

    /// Calls `ready` until it returns true. Fails as [`Process::wait_ready`].
    pub(crate) async fn wait_until<F: Future<Output = bool>>(
        &self,
        what: &str,
        limit: Duration,
        ready: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let name = self.name.to_string_lossy();
        let deadline = Instant::now() + limit;
        loop {
            if !self.is_running() {
                let status = self.wait().await;
                bail!(
                    "{name} ended ({status}) before it was ready{}",
                    self.end_of_log()
                );
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} is not ready at {what} after {limit:?}{}",
                    self.end_of_log()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let from = log.lines().count().saturating_sub(15);
        let lines: Vec<_> = log.lines().skip(from).collect();
        format!(
            "; the end of {}:\n    {}",
            self.log.display(),
            lines.join("\n    ")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
