//! How a decoder ended, and why one cannot be started.

use std::{
    io, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus, time::Duration,
};

use nix::sys::signal::Signal;

/// Why a decoder ended before its worker did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The decoder ended itself over the image: a crash, an abort, an allocation over its limit, an exit.
    #[error("the decoder crashed: {0}")]
    Crashed(String),
    /// The decoder was killed by SIGKILL, which no image can cause: by an operator, or for want of memory.
    #[error("the decoder was killed from outside")]
    Killed,
    /// The decoder ended while it waited for an image.
    #[error("the decoder ended between two images: {0}")]
    EndedIdle(String),
    /// The decode took more CPU time than allowed. The worker killed the decoder.
    #[error("the decode took more than {} s of CPU time", .0.as_secs_f64())]
    TookTooLong(Duration),
    /// The decoder used no CPU time for so long, or very little for many times as long. The worker killed the decoder.
    #[error("the decoder did not answer for {} s", .0.as_secs_f64())]
    Asleep(Duration),
    /// The answer was impossible. The worker killed the decoder.
    #[error("the decoder gave an impossible answer: {0}")]
    WrongAnswer(String),
}

impl End {
    /// The label of the metric `darkroom_decoder_restarts_total`.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::Crashed(_) => "crashed",
            Self::Killed => "killed",
            Self::EndedIdle(_) => "ended_idle",
            Self::TookTooLong(_) => "took_too_long",
            Self::Asleep(_) => "asleep",
            Self::WrongAnswer(_) => "wrong_answer",
        }
    }

    /// How a decoder ended that had an image, by its exit status.
    pub(super) fn of_busy(status: ExitStatus) -> Self {
        if status.signal() == Some(Signal::SIGKILL as i32) {
            Self::Killed
        } else {
            Self::Crashed(describe(status))
        }
    }
}

/// `SIGSEGV` or `exit code 1`.
pub(super) fn describe(status: ExitStatus) -> String {
    let signal = status.signal().map(Signal::try_from);
    match (signal, status.code()) {
        (Some(Ok(signal)), _) => signal.as_str().to_owned(),
        (_, Some(code)) => format!("exit code {code}"),
        _ => status.to_string(),
    }
}

/// Why a decoder cannot work. It says nothing about an image.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("{} was not found", .0.display())]
    NotFound(PathBuf),
    #[error("{} cannot be started", .0.display())]
    NotStarted(PathBuf, #[source] io::Error),
    #[error("the decoder cannot be set up: {0}")]
    NotSetUp(String),
    #[error("the decoder ended while it started: {0}")]
    Ended(String),
    #[error("the decoder was not ready within {} s", .0.as_secs_f64())]
    NotReady(Duration),
    #[error("the memory or the socket that is shared with the decoder failed")]
    Shared(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::End;

    #[test]
    fn only_sigkill_comes_from_outside() {
        let end = |status| End::of_busy(ExitStatus::from_raw(status));
        assert_eq!(end(9), End::Killed);
        assert_eq!(end(11), End::Crashed("SIGSEGV".into()));
        assert_eq!(end(31), End::Crashed("SIGSYS".into()));
        assert_eq!(end(101 << 8), End::Crashed("exit code 101".into()));
    }
}
