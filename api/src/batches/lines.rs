use bytes::BytesMut;
use jobs::{Problem, ProblemCode, Sha256Digest};
use sha2::{Digest, Sha256};

use super::entry::BatchEntry;
use crate::{config::Limits, http::error::ApiError};

/// Cuts a body into lines. Skips blank lines. Holds at most one line.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes at the start of the buffer that contain no line feed.
    searched: usize,
    /// The current line is too long: its rest is dropped.
    is_overlong: bool,
    hasher: Sha256,
    line_bytes_max: usize,
}

impl Lines {
    pub fn new(seed: &Sha256, limits: &Limits) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            is_overlong: false,
            hasher: seed.clone(),
            line_bytes_max: limits.batch_line_bytes_max,
        }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete line.
    pub fn next(&mut self) -> Option<BatchEntry> {
        loop {
            let end = self.buffer[self.searched..]
                .iter()
                .position(|&byte| byte == b'\n');
            let Some(end) = end else {
                self.searched = self.buffer.len();
                if self.searched > self.line_bytes_max {
                    self.is_overlong = true;
                    self.drop_buffer();
                }
                return None;
            };
            let mut line = self.buffer.split_to(self.searched + end + 1);
            line.truncate(line.len() - 1);
            self.searched = 0;
            if let Some(entry) = self.line(&line) {
                return Some(entry);
            }
        }
    }

    /// The rest after the last line feed, at the end of the body.
    pub fn last(&mut self) -> Option<BatchEntry> {
        let line = self.buffer.split();
        self.searched = 0;
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> Option<BatchEntry> {
        // Blanks at the ends count, because the bytes that were dropped before may have been blanks, too. A line is then
        // refused, and hashed, alike however its bytes arrive.
        let is_overlong = std::mem::take(&mut self.is_overlong) || line.len() > self.line_bytes_max;
        let line = if is_overlong { line } else { line.trim_ascii() };
        if line.is_empty() && !is_overlong {
            return None;
        }
        self.hasher.update(line);
        self.hasher.update(b"\n");
        if is_overlong {
            return Some(BatchEntry::Refused {
                custom_id: None,
                problem: Box::new(self.too_long()),
            });
        }
        Some(BatchEntry::Line(line.to_vec()))
    }

    fn drop_buffer(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
        self.searched = 0;
    }

    fn too_long(&self) -> Problem {
        let detail = format!("a line may have up to {} bytes", self.line_bytes_max);
        Problem::new(ProblemCode::ImageTooLarge, detail)
    }

    /// The digest of all lines so far.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::finish(self.hasher.clone())
    }
}

/// The refusal of a body that is larger than a batch may be.
pub(super) fn too_large(limits: &Limits) -> ApiError {
    let detail = format!("a batch may have up to {} bytes", limits.batch_bytes_max);
    ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use sha2::{Digest, Sha256};

    use super::Lines;
    use crate::batches::entry::BatchEntry;

    fn lines(line_bytes_max: usize) -> Lines {
        Lines {
            buffer: BytesMut::new(),
            searched: 0,
            is_overlong: false,
            hasher: Sha256::new(),
            line_bytes_max,
        }
    }

    /// The lines of a body that arrives in pieces of this size; `!` for a refused line.
    fn cut(body: &str, piece: usize) -> (Vec<String>, jobs::Sha256Digest) {
        let mut lines = lines(8);
        let mut out = Vec::new();
        let mut note = |entry| {
            out.push(match entry {
                BatchEntry::Line(text) => String::from_utf8(text).expect("text"),
                _ => "!".into(),
            });
        };
        for piece in body.as_bytes().chunks(piece) {
            lines.push(piece);
            while let Some(entry) = lines.next() {
                note(entry);
            }
        }
        lines.last().into_iter().for_each(note);
        (out, lines.digest())
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_arrive() {
        let body = "one\r\n\n  \ntwo\nfar too long a line\nthree";
        let whole = cut(body, 1000);
        assert_eq!(whole.0, ["one", "two", "!", "three"]);
        for piece in 1..20 {
            assert_eq!(cut(body, piece).0, whole.0, "{piece}");
        }
    }

    /// A repetition under an Idempotency-Key has the digest of the first try, even if the network cuts it differently.
    #[test]
    fn an_overlong_line_with_blanks_has_one_digest_however_its_bytes_arrive() {
        for body in [" far  too  long \nb", "\ta          \nb", "            \nb"] {
            let whole = cut(body, 1000);
            assert_eq!(whole.0, ["!", "b"], "{body:?}");
            for piece in 1..20 {
                assert_eq!(cut(body, piece), whole, "{body:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_digest_tells_lines_apart_and_does_not_see_what_is_blank() {
        assert_eq!(cut("a\nb\n", 3).1, cut("a\n\nb", 1).1);
        assert_ne!(cut("a\nb\n", 3).1, cut("ab\n", 3).1);
    }

    #[test]
    fn no_more_than_one_line_is_held() {
        let mut lines = lines(8);
        for _ in 0..1000 {
            lines.push(b"0123456789");
            assert!(lines.next().is_none());
            assert!(lines.buffer.len() <= 8 + 10);
        }
    }
}
