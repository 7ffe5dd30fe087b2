//! The status of all processes of the stack: pid files, lines for terminals, the log of the supervisor.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::layout::Layout;

/// A running process of the stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProcessStatus {
    pub(super) pid: i32,
    /// Address, and data folder if the process has one.
    #[serde(rename = "place")] // an older supervisor may still send this name
    pub(super) location: String,
    pub(super) since: DateTime<Utc>,
}

/// The status of all processes. The tasks of the supervisor share one board.
#[derive(Debug)]
pub(super) struct StatusBoard {
    layout: Layout,
    processes: Mutex<BTreeMap<String, ProcessStatus>>,
    lines: broadcast::Sender<String>,
}

impl StatusBoard {
    pub(super) fn new(layout: Layout) -> Self {
        // A supervisor that was killed leaves its pid files. Its children ended with it.
        for stale in fs::read_dir(layout.data.join("pids"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = fs::remove_file(stale.path());
        }
        let (lines, _) = broadcast::channel(1024);
        Self {
            layout,
            processes: Mutex::default(),
            lines,
        }
    }

    /// Reports one event about process `name`: a line to the log and to every listening terminal.
    pub(super) fn report(&self, level: &str, name: &str, what: &str) {
        let timestamp = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        let line = serde_json::json!({
            "timestamp": timestamp, "level": level, "name": name, "message": what
        });
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.layout.log("supervisor"));
        if let Ok(mut log) = log {
            let _ = log.write_all(format!("{line}\n").as_bytes());
        }
        let _ = self.lines.send(format!("{name:<10} {what}")); // an error means that no terminal listens
    }

    pub(super) fn lines(&self) -> broadcast::Receiver<String> {
        self.lines.subscribe()
    }

    pub(super) fn started(&self, name: &str, pid: i32, location: &str) {
        let process = ProcessStatus {
            pid,
            location: location.to_owned(),
            since: Utc::now(),
        };
        let _ = fs::write(self.layout.pid(name), format!("{pid}\n"));
        self.locked().insert(name.to_owned(), process);
    }

    /// Removes process `name`, unless a successor with another pid has replaced it.
    pub(super) fn ended(&self, name: &str, pid: i32) {
        let mut processes = self.locked();
        if processes
            .get(name)
            .is_some_and(|process| process.pid == pid)
        {
            processes.remove(name);
            let _ = fs::remove_file(self.layout.pid(name));
        }
    }

    pub(super) fn processes(&self) -> BTreeMap<String, ProcessStatus> {
        self.locked().clone()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ProcessStatus>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
