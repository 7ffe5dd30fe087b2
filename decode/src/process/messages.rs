//! The messages between a worker and its decoder, and the socket that carries them.
//!
//! The socket keeps the limits of messages (`SOCK_SEQPACKET`). A message is a JSON document of a few hundred bytes.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
        recvmsg, send, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Limits, Reason, Refusal, Warning};

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Longest text in an answer, in characters.
const TEXT_CHARS_MAX: usize = 400;

/// The first message to a decoder. The files of the encoded image and of the pixels come with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    /// The version of the worker. The decoder must have the same.
    pub version: String,
    pub limits: Limits,
}

/// Asks for the pixels of the image in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Bytes of the encoded image.
    pub image_bytes: usize,
    pub scale_min: f64,
}

/// What a decoder says. The parent trusts nothing of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The decoder is set up and waits for its first request.
    Ready,
    /// The decoder cannot be set up. Then it ends.
    CannotStart(String),
    /// The pixels lie in the shared memory.
    Decoded {
        width: u32,
        height: u32,
        warnings: Vec<Warning>,
    },
    Refused {
        reason: Reason,
        detail: String,
        cause: Option<String>,
    },
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            reason: refusal.reason,
            detail: shorten(&refusal.detail),
            cause: refusal.cause.map(|cause| shorten(&cause.to_string())),
        }
    }
}

/// A text that may be shown: of one line, and not too long.
pub(super) fn shorten(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(TEXT_CHARS_MAX)
        .collect()
}

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Channel<Fd>(Fd);

impl Channel<OwnedFd> {
    /// Both ends. No end is inherited by a program that another thread starts.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(ours), theirs))
    }
}

impl Channel<BorrowedFd<'static>> {
    /// The end that a decoder has as its standard input.
    pub(super) fn of_stdin() -> Self {
        /// Lives as long as the process.
        static STDIN: std::sync::LazyLock<io::Stdin> = std::sync::LazyLock::new(io::stdin);
        Self(STDIN.as_fd())
    }
}

impl<Fd: AsFd> Channel<Fd> {
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let message = serde_json::to_vec(message)?;
        send(self.raw(), &message, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// Sends a message with two open files.
    pub(super) fn send_with_files(
        &self,
        message: &impl Serialize,
        files: [BorrowedFd<'_>; 2],
    ) -> io::Result<()> {
        let message = serde_json::to_vec(message)?;
        let files = files.map(|file| file.as_raw_fd());
        let (message, files) = (
            [IoSlice::new(&message)],
            [ControlMessage::ScmRights(&files)],
        );
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.raw(), &message, &files, flags, None)?;
        Ok(())
    }

    /// Waits for the next message. `None`: the other side has closed the socket.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let bytes = loop {
            match recv(self.raw(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                // The other side ended and had not read all messages.
                Err(Errno::ECONNRESET) => break 0,
                received => break received?,
            }
        };
        if bytes == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&buffer[..bytes])?))
    }

    /// Waits for the next message and its two files. `None`: the other side has closed the socket.
    pub(super) fn receive_with_files<T: DeserializeOwned>(
        &self,
    ) -> io::Result<Option<(T, [RawFd; 2])>> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut space = cmsg_space!([RawFd; 2]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.raw(), &mut parts, Some(&mut space), flags)?;
        let bytes = received.bytes;
        let files = received.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmRights(files) => <[RawFd; 2]>::try_from(files).ok(),
            _ => None,
        });
        if bytes == 0 {
            return Ok(None);
        }
        let files = files.ok_or_else(|| io::Error::other("the message came without its files"))?;
        Ok(Some((serde_json::from_slice(&buffer[..bytes])?, files)))
    }

    /// Waits until a message or the end of the other side can be received. `false`: the time is over.
    pub(super) fn is_readable_within(&self, wait: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(
            &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            // A parent that was stopped for long finds the answer here, and no time left.
            Err(Errno::EINTR) => self.is_readable_within(Duration::ZERO),
            ready => Ok(ready? > 0),
        }
    }

    fn raw(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Channel, Request, TEXT_CHARS_MAX, shorten};

    #[test]
    fn messages_keep_their_limits_and_the_end_is_seen() {
        let (parent, child) = Channel::pair().expect("a socket");
        let child = Channel(child);
        for image_bytes in [1, 2] {
            let request = Request {
                image_bytes,
                scale_min: 0.1,
            };
            parent.send(&request).expect("sent");
        }
        for image_bytes in [1, 2] {
            let request: Request = child.receive().expect("received").expect("a message");
            assert_eq!((request.image_bytes, request.scale_min), (image_bytes, 0.1));
        }
        drop(parent);
        let end: Option<Request> = child.receive().expect("received");
        assert_eq!(end, None);
    }

    #[test]
    fn a_text_is_one_line_and_its_longest_answer_fits_into_a_message() {
        assert_eq!(shorten("a\nb\u{1b}[31m"), "a b [31m");
        let text = shorten(&"\u{1f4f7}".repeat(2 * TEXT_CHARS_MAX));
        let answer = Answer::Refused {
            reason: crate::Reason::Undecodable,
            detail: text.clone(),
            cause: Some(text),
        };
        let bytes = serde_json::to_vec(&answer).expect("JSON").len();
        assert!(bytes < super::MESSAGE_BYTES_MAX, "{bytes}");
    }
}
