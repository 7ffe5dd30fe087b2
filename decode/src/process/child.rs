//! One running decoder, as its parent sees it.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use super::{
    end::{End, Unavailable, describe},
    messages::{Answer, Channel, Greeting, Request, shorten},
    shared_memory::SharedMemory,
};
use crate::Limits;

/// A decoder must be ready within this time. It takes milliseconds, but the disk of a new machine may be slow.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The CPU time of a decoder is looked at this often in the CPU time that an image may take.
const LOOKS: u32 = 10;
/// A decoder that used no CPU time between so many looks is asleep. A busy machine gives it a little each time.
const IDLE_LOOKS_MAX: u32 = 2 * LOOKS;
/// A decoder must answer within so many looks, even if it uses CPU time now and then.
const LOOKS_MAX: u32 = 30 * LOOKS;

/// A running decoder. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct RunningDecoder {
    process: Child,
    channel: Channel<OwnedFd>,
}

impl RunningDecoder {
    /// Starts `program` with an empty environment, and waits until it is ready.
    ///
    /// The kernel kills the decoder when the calling thread ends.
    pub(super) fn start(
        program: &Path,
        limits: &Limits,
        memory: &SharedMemory,
    ) -> Result<Self, Unavailable> {
        let (channel, theirs) = Channel::pair()?;
        let process = Command::new(program)
            .env_clear()
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn(); // standard error is the parent's until the decoder is set up: the loader of programs writes there
        let process = process.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unavailable::NotFound(program.to_owned()),
            _ => Unavailable::NotStarted(program.to_owned(), error),
        })?;
        let mut decoder = Self { process, channel };
        let greeting = Greeting {
            version: env!("CARGO_PKG_VERSION").into(),
            limits: limits.clone(),
        };
        let sent = decoder.channel.send_with_files(&greeting, memory.files());
        let answer = match sent {
            Ok(()) if !decoder.channel.is_readable_within(READY_WITHIN)? => {
                return Err(Unavailable::NotReady(READY_WITHIN));
            }
            Ok(()) => decoder.channel.receive()?,
            // The decoder has ended: its exit status says more than a broken socket.
            Err(_) => None,
        };
        match answer {
            Some(Answer::Ready) => Ok(decoder),
            Some(Answer::CannotStart(reason)) => Err(Unavailable::NotSetUp(shorten(&reason))),
            Some(_) => Err(Unavailable::NotSetUp("it sent a wrong message".into())),
            None => Err(Unavailable::Ended(describe(decoder.kill()?))),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks for the image in the shared memory, and waits for the answer. After an error the decoder has ended.
    pub(super) fn ask(&mut self, request: Request, cpu_max: Duration) -> Result<Answer, End> {
        if self.channel.send(&request).is_err() {
            return Err(End::EndedIdle(self.kill_and_describe()));
        }
        let answer = self.wait_for_answer(cpu_max).and_then(|()| {
            let received = self.channel.receive();
            received.map_err(|error| End::WrongAnswer(error.to_string()))
        });
        match answer {
            Ok(Some(answer)) => Ok(answer),
            // A dead process cannot be killed: the status says how it ended.
            Ok(None) => Err(match self.kill() {
                Ok(status) => End::of_busy(status),
                Err(error) => End::Crashed(error.to_string()),
            }),
            Err(end) => {
                self.kill_and_describe();
                Err(end)
            }
        }
    }

    /// Waits until the decoder answers or ends; at most until the image has used `cpu_max` of CPU time, and up to a fifth more.
    ///
    /// Counts looks, not time: a machine that was suspended has not let the decoder run.
    fn wait_for_answer(&self, cpu_max: Duration) -> Result<(), End> {
        let between = (cpu_max / LOOKS).max(Duration::from_millis(1));
        let mut cpu_before = None;
        let mut cpu_last = Duration::ZERO;
        let mut idle_looks = 0;
        for _ in 0..LOOKS_MAX {
            let is_readable = self.channel.is_readable_within(between);
            if is_readable.map_err(|error| End::WrongAnswer(error.to_string()))? {
                return Ok(());
            }
            // Not read before the first wait: most images need no further system call.
            let cpu_now = self.cpu_time();
            if cpu_now.saturating_sub(*cpu_before.get_or_insert(cpu_now)) >= cpu_max {
                return Err(End::TookTooLong(cpu_max));
            }
            idle_looks = if cpu_now == cpu_last {
                idle_looks + 1
            } else {
                0
            };
            cpu_last = cpu_now;
            if idle_looks >= IDLE_LOOKS_MAX {
                return Err(End::Asleep(between * IDLE_LOOKS_MAX));
            }
        }
        Err(End::Asleep(between * LOOKS_MAX))
    }

    /// CPU time that the process has used. Zero if it cannot be read; then the decoder counts as asleep.
    fn cpu_time(&self) -> Duration {
        let pid = Pid::from_raw(self.process.id() as i32);
        let clock = clock_getcpuclockid(pid).and_then(clock_gettime);
        clock.map_or(Duration::ZERO, Duration::from)
    }

    fn kill_and_describe(&mut self) -> String {
        self.kill().map_or_else(|error| error.to_string(), describe)
    }

    /// Kills the process if it runs, and returns how it ended.
    pub(super) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.process.kill()?;
        self.process.wait()
    }
}

impl Drop for RunningDecoder {
    fn drop(&mut self) {
        // Fails only if the process was waited for already.
        drop(self.kill());
    }
}
