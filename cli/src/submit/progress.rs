//! The progress of a submit: a bar on a terminal, a line every ten seconds in a log.

use std::{
    cell::Cell,
    fmt::Display,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{failure::Failure, terminal};

/// Between two lines, if standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const LOOK: &str = "{bar:30} {pos} of {len}  {per_sec}  {eta} left  {msg}";

#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    images: usize,
    goal: &'static str,
    begun_at: Instant,
    told_at: Cell<Instant>,
    /// Images that this run submitted.
    sent: Cell<usize>,
    /// Images that an earlier run submitted.
    known: Cell<usize>,
    /// Images whose line is written.
    done: Cell<usize>,
}

impl Progress {
    /// `goal` is what becomes of all `images`: `submitted` or `ended`.
    pub(crate) fn new(images: usize, goal: &'static str) -> Self {
        let style = ProgressStyle::with_template(LOOK);
        let bar = (images > 1 && stderr().is_terminal())
            .then_some(style)
            .and_then(Result::ok)
            .map(|style| ProgressBar::new(images as u64).with_style(style));
        Self {
            bar,
            images,
            goal,
            begun_at: Instant::now(),
            told_at: Cell::new(Instant::now()),
            sent: Cell::new(0),
            known: Cell::new(0),
            done: Cell::new(0),
        }
    }

    /// Writes to standard output while the bar is hidden.
    pub(crate) fn print(&self, print: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Writes a line to standard error while the bar is hidden.
    pub(crate) fn note(&self, text: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| terminal::note(text)),
            None => terminal::note(text),
        }
    }

    /// Counts an image that was submitted now, or by an earlier run.
    pub(crate) fn count_submitted(&self, is_earlier: bool) {
        let count = if is_earlier { &self.known } else { &self.sent };
        count.set(count.get() + 1);
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "({} submitted)",
                self.sent.get() + self.known.get()
            ));
        }
    }

    /// Counts an image whose line is written.
    pub(crate) fn count_done(&self) {
        self.done.set(self.done.get() + 1);
        if let Some(bar) = &self.bar {
            bar.inc(1);
        } else if self.told_at.get().elapsed() > LINE_EVERY {
            self.told_at.set(Instant::now());
            terminal::note(self.summary());
        }
    }

    fn summary(&self) -> String {
        let (done, images, goal) = (self.done.get(), self.images, self.goal);
        let rate = done as f64 / self.begun_at.elapsed().as_secs_f64();
        let left = (images - done) as f64 / rate;
        format!("{done} of {images} {goal}, {rate:.1}/s, {left:.0} s left")
    }

    /// Removes the bar; for more than one image, says how many were submitted.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.images > 1 {
            let (sent, known, images) = (self.sent.get(), self.known.get(), self.images);
            let took = self.begun_at.elapsed().as_secs_f64();
            let before = match known {
                0 => String::new(),
                known => format!(" {known} before,"),
            };
            terminal::note(format!(
                "{images} images:{before} {sent} submitted now, in {took:.1} s"
            ));
        }
    }
}
