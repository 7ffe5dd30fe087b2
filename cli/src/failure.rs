//! Why a command stops early, and the exit code that scripts see.

use std::{error::Error, io, process::ExitCode};

use crate::service::{CallError, Refusal};

pub(crate) const SOME_JOB_FAILED: u8 = 1;
pub(crate) const WRONG_USAGE: u8 = 2;
pub(crate) const NOT_SERVED: u8 = 3;
pub(crate) const REFUSED: u8 = 4;
pub(crate) const NOT_FOUND: u8 = 5;
pub(crate) const OUT_OF_TIME: u8 = 6;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or a local file is wrong.
    Usage(String),
    /// The service answered with a problem document.
    Refused(Refusal),
    /// A worker could not load a version that was pushed.
    Rejected(String),
    /// The service, Postgres or S3 is away, or a proxy in between is broken.
    Away { what: String, next: &'static str },
    /// The jobs took longer than `--timeout`.
    OutOfTime(String),
    /// The reader of standard output has left, as `head` does.
    OutputClosed,
}

impl Failure {
    /// An error of Postgres or S3, with its causes.
    pub(crate) fn away(what: &str, error: &(dyn Error + 'static), next: &'static str) -> Self {
        let what = format!("{what}: {}", causes(error));
        Self::Away { what, next }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => WRONG_USAGE.into(),
            Self::Refused(refusal) => match refusal.status {
                404 | 410 => NOT_FOUND,
                429 | 500.. => NOT_SERVED,
                _ => REFUSED,
            }
            .into(),
            Self::Rejected(_) => REFUSED.into(),
            Self::Away { .. } => NOT_SERVED.into(),
            Self::OutOfTime(_) => OUT_OF_TIME.into(),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// The message for standard error.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Usage(what) | Self::Rejected(what) | Self::OutOfTime(what) => {
                Some(format!("error: {what}"))
            }
            Self::Refused(refusal) => Some(format!("error: {refusal}")),
            Self::Away { what, next } => Some(format!("error: {what}\nnext: {next}")),
            Self::OutputClosed => None,
        }
    }
}

/// The error and its causes, outermost first. A cause that its error quotes is left out.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        next = error.source();
        let cause = error.to_string();
        if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Away { what, .. } => Self::Away {
                what,
                next: "check DARKROOM_URL (or --url) and that the service runs: its /livez answers without a key",
            },
            CallError::Unreadable(what) => Self::Usage(what),
        }
    }
}

/// `?` converts I/O errors only where standard output is written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Away {
                what: format!("cannot write to standard output: {error}"),
                next: "check where the output goes",
            },
        }
    }
}
