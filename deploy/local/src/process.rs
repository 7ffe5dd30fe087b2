//! A child process with a log file: started, watched, signalled, waited for.
//!
//! Each child leads its own process group (Ctrl-C reaches only us, who stop it in order) and dies
//! with us, however we die.

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

/// What to run. Standard input is empty, both outputs go to the log.
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

    /// Starts from an empty environment instead of ours.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// What the kernel sends the child when we are gone; SIGKILL unless said.
    #[must_use]
    pub fn dies_with_us_by(mut self, death_signal: Signal) -> Self {
        self.death_signal = death_signal;
        self
    }

    /// Runs it as another user (we are root).
    #[must_use]
    pub(crate) fn run_as(mut self, account: Option<&Account>) -> Self {
        if let Some(account) = account {
            account.apply(&mut self.command);
        }
        self
    }

    /// Starts it; what it writes is appended to `log`, each line as JSON.
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
        let reaping = Arc::new(Reaped::default());
        let guard = Arc::clone(&reaping);
        std::thread::Builder::new()
            .name("reaper".into())
            .spawn(move || {
                spawner::wait_without_reaping(pid);
                // Under the lock, so that nobody signals a pid that is already someone else's.
                let mut reaped = guard.reaped.lock().unwrap_or_else(PoisonError::into_inner);
                ended.send_replace(child.wait().ok());
                *reaped = true;
                guard.changed.notify_all();
            })?;
        Ok(Process {
            name,
            pid,
            log: log.to_owned(),
            state,
            reaping,
            logged,
        })
    }
}

/// Whether the child's status was collected, after which its pid may be another's.
#[derive(Debug, Default)]
struct Reaped {
    reaped: Mutex<bool>,
    changed: Condvar,
}

/// A running or ended child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: OsString,
    pid: Pid,
    log: PathBuf,
    state: watch::Receiver<Option<ExitStatus>>,
    reaping: Arc<Reaped>,
    logged: log_file::Written,
}

impl Process {
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub fn is_running(&self) -> bool {
        self.state.borrow().is_none() && self.state.has_changed().is_ok()
    }

    /// Sends one signal to the child itself; does nothing when it has ended.
    pub fn signal(&self, signal: Signal) {
        let reaped = self
            .reaping
            .reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            let _ = signal::kill(self.pid, signal);
        }
    }

    /// `kill -9` and the wait for the end.
    pub async fn kill(&self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait().await
    }

    /// How it ended, once it has: for a task that outlives this borrow.
    pub(crate) fn ended(&self) -> impl Future<Output = ExitStatus> + use<> {
        let mut state = self.state.clone();
        async move {
            let ended = state.wait_for(Option::is_some).await;
            ended.ok().and_then(|status| *status).unwrap_or_default()
        }
    }

    /// Waits until the child has ended and its last words are in the log.
    pub async fn wait(&self) -> ExitStatus {
        let status = self.ended().await;
        // Not for ever: a grandchild may hold the output open.
        let _ = timeout(Duration::from_secs(1), self.logged.complete()).await;
        status
    }

    /// The same, or `None` when it takes longer than `limit`.
    pub async fn wait_for(&self, limit: Duration) -> Option<ExitStatus> {
        timeout(limit, self.wait()).await.ok()
    }

    /// Waits for its end without a runtime, for destructors.
    pub(crate) fn block_until_ended(&self, limit: Duration) {
        let reaped = self
            .reaping
            .reaped
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(
            self.reaping
                .changed
                .wait_timeout_while(reaped, limit, |reaped| !*reaped),
        );
    }

    /// Asks it to end with `signal`; kills it when it has not after `grace`.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> ExitStatus {
        self.signal(signal);
        match self.wait_for(grace).await {
            Some(status) => status,
            None => self.kill().await,
        }
    }

    /// All that it has logged so far (and processes before it, in the same file).
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `GET url` answers 200; an error when the child ends or `limit` passes first.
    pub async fn wait_ready(&self, url: &str, limit: Duration) -> anyhow::Result<()> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(2))
            .build()?;
        self.wait_until(url, limit, || async {
            http.get(url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
        .await
    }

    /// Waits until something listens on `port` of 127.0.0.1.
    pub async fn wait_listening(&self, port: u16, limit: Duration) -> anyhow::Result<()> {
        let place = format!("127.0.0.1:{port}");
        self.wait_until(&place, limit, || async { ports::is_taken(port) })
            .await
    }

    /// Asks `ready` again and again; an error that shows the log when it never is.
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
                    self.last_words()
                );
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{name} is not ready at {what} after {limit:?}{}",
                    self.last_words()
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn last_words(&self) -> String {
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
