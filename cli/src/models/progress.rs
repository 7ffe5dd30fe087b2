//! The progress of an upload: a bar on a terminal, a line every ten seconds in a log.

use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::terminal;

const LOOK: &str = "{bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
/// Between two lines, if standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// A smaller file gets no bar: it is sent at once.
const SHOWN_FROM_BYTES: u64 = 4 << 20;

/// The progress of one file.
#[derive(Debug)]
pub(super) struct Progress {
    name: String,
    bytes: u64,
    bar: Option<ProgressBar>,
    told_at: Cell<Instant>,
}

impl Progress {
    pub(super) fn new(name: &str, bytes: u64) -> Self {
        let style = ProgressStyle::with_template(LOOK);
        let bar = (bytes >= SHOWN_FROM_BYTES && stderr().is_terminal())
            .then_some(style)
            .and_then(Result::ok)
            .map(|style| ProgressBar::new(bytes).with_style(style));
        if let Some(bar) = &bar {
            bar.set_message(terminal::clean(name).into_owned());
        }
        Self {
            name: name.to_owned(),
            bytes,
            bar,
            told_at: Cell::new(Instant::now()),
        }
    }

    /// So many bytes are sent. A try that begins anew begins at 0.
    pub(super) fn tell(&self, sent: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(sent);
        } else if self.told_at.get().elapsed() > LINE_EVERY {
            self.told_at.set(Instant::now());
            let (sent, bytes) = (HumanBytes(sent), HumanBytes(self.bytes));
            terminal::note(format!("{}: {sent} of {bytes}", self.name));
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
