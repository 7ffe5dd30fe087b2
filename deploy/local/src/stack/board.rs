//! What runs, for everybody to see: pid files, the lines of the terminal, the supervisor's log.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::layout::Layout;

/// One process of the stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) pid: i32,
    /// An address, and what else tells it apart.
    pub(super) place: String,
    pub(super) since: DateTime<Utc>,
}

/// Shared by the supervisor's tasks.
#[derive(Debug)]
pub(super) struct Board {
    layout: Layout,
    rows: Mutex<BTreeMap<String, Row>>,
    lines: broadcast::Sender<String>,
}

impl Board {
    pub(super) fn new(layout: Layout) -> Self {
        // Pid files of a supervisor that was killed: its children died with it.
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
            rows: Mutex::default(),
            lines,
        }
    }

    /// One state change, one line: to the log, and to every terminal that listens.
    pub(super) fn say(&self, level: &str, name: &str, what: &str) {
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
        let _ = self.lines.send(format!("{name:<10} {what}")); // nobody listening is fine
    }

    pub(super) fn lines(&self) -> broadcast::Receiver<String> {
        self.lines.subscribe()
    }

    pub(super) fn started(&self, name: &str, pid: i32, place: &str) {
        let row = Row {
            pid,
            place: place.to_owned(),
            since: Utc::now(),
        };
        let _ = fs::write(self.layout.pid(name), format!("{pid}\n"));
        self.locked().insert(name.to_owned(), row);
    }

    /// Takes it off, unless its place went to a successor already.
    pub(super) fn ended(&self, name: &str, pid: i32) {
        let mut rows = self.locked();
        if rows.get(name).is_some_and(|row| row.pid == pid) {
            rows.remove(name);
            let _ = fs::remove_file(self.layout.pid(name));
        }
    }

    pub(super) fn rows(&self) -> BTreeMap<String, Row> {
        self.locked().clone()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
