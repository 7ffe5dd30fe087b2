//! How far a submit is: a bar on a terminal, a line now and then in a log.

use std::{
    cell::Cell,
    fmt::Display,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{failure::Failure, plain};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const LOOK: &str = "{bar:30} {pos} of {len}  {per_sec}  {eta} left  {msg}";

#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    images: usize,
    what: &'static str,
    begun_at: Instant,
    told_at: Cell<Instant>,
    sent: Cell<usize>,
    known: Cell<usize>,
    done: Cell<usize>,
}

impl Progress {
    /// Of so many images that are `what` in the end: `submitted`, `ended`.
    pub(crate) fn new(images: usize, what: &'static str) -> Self {
        let style = ProgressStyle::with_template(LOOK);
        let bar = (images > 1 && stderr().is_terminal())
            .then_some(style)
            .and_then(Result::ok)
            .map(|style| ProgressBar::new(images as u64).with_style(style));
        Self {
            bar,
            images,
            what,
            begun_at: Instant::now(),
            told_at: Cell::new(Instant::now()),
            sent: Cell::new(0),
            known: Cell::new(0),
            done: Cell::new(0),
        }
    }

    /// A line on standard output, clear of the bar.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Failure> {
        match &self.bar {
            Some(bar) => bar.suspend(|| plain::line(text)),
            None => plain::line(text),
        }
    }

    /// A line on standard error, clear of the bar.
    pub(crate) fn remark(&self, text: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// The service has one more image, or had it before.
    pub(crate) fn sent(&self, before: bool) {
        let count = if before { &self.known } else { &self.sent };
        count.set(count.get() + 1);
        if let Some(bar) = &self.bar {
            bar.set_message(format!(
                "({} submitted)",
                self.sent.get() + self.known.get()
            ));
        }
    }

    /// One more image has its line.
    pub(crate) fn done(&self) {
        self.done.set(self.done.get() + 1);
        if let Some(bar) = &self.bar {
            bar.inc(1);
        } else if self.told_at.get().elapsed() > LINE_EVERY {
            self.told_at.set(Instant::now());
            eprintln!("{}", self.standing());
        }
    }

    fn standing(&self) -> String {
        let (done, images, what) = (self.done.get(), self.images, self.what);
        let rate = done as f64 / self.begun_at.elapsed().as_secs_f64();
        let left = (images - done) as f64 / rate;
        format!("{done} of {images} {what}, {rate:.1}/s, {left:.0} s left")
    }

    /// What was done, once there was more than one image to it.
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
            eprintln!("{images} images:{before} {sent} submitted now, in {took:.1} s");
        }
    }
}
