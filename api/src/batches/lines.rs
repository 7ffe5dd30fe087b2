use bytes::{Buf, BytesMut};
use jobs::{ProblemCode, Sha256Digest};
use memchr::memchr;
use sha2::{Digest, Sha256};

use super::entry::BatchEntry;
use crate::{
    config::Limits,
    http::error::ApiError,
    submit::job_json::{JobJson, SplitJob},
};

/// Cuts a body into lines. Skips blank lines. Holds at most one line, whose image is in a spool.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    limits: &'a Limits,
    /// Bytes that have arrived and are not read yet.
    buffer: BytesMut,
    line: OpenLine<'a>,
    hasher: Sha256,
}

/// A line that is still arriving.
#[derive(Debug)]
struct OpenLine<'a> {
    job: JobJson<'a>,
    length: usize,
    /// Why the line is refused. The rest of a refused line is dropped.
    refusal: Option<ApiError>,
}

impl<'a> OpenLine<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            job: JobJson::hashing(limits),
            length: 0,
            refusal: None,
        }
    }

    fn push(&mut self, piece: &[u8], line_bytes_max: usize) {
        let fits = piece
            .len()
            .min(line_bytes_max - self.length.min(line_bytes_max));
        self.length += piece.len();
        let mut taken = 0;
        if self.refusal.is_none() {
            taken = self.job.push(&piece[..fits]);
            if taken < fits {
                self.refusal = Some(self.job.too_long());
            } else if fits < piece.len() {
                self.refusal = Some(too_long(line_bytes_max));
            }
        }
        self.job.drop_bytes(&piece[taken..]);
    }
}

impl<'a> Lines<'a> {
    pub fn new(seed: &Sha256, limits: &'a Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            line: OpenLine::new(limits),
            hasher: seed.clone(),
        }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete line.
    ///
    /// # Errors
    /// A failure of the service.
    pub fn next(&mut self) -> Result<Option<BatchEntry>, ApiError> {
        loop {
            let end = memchr(b'\n', &self.buffer);
            let piece = self.buffer.split_to(end.unwrap_or(self.buffer.len()));
            self.line.push(&piece, self.limits.batch_line_bytes_max);
            if end.is_none() {
                return Ok(None);
            }
            self.buffer.advance(1);
            if let Some(entry) = self.end_line()? {
                return Ok(Some(entry));
            }
        }
    }

    /// The rest after the last line feed, at the end of the body.
    ///
    /// # Errors
    /// A failure of the service.
    pub fn last(&mut self) -> Result<Option<BatchEntry>, ApiError> {
        self.end_line()
    }

    /// Bytes of memory and disk that the open line uses, roughly.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() + self.line.job.held_bytes()
    }

    fn end_line(&mut self) -> Result<Option<BatchEntry>, ApiError> {
        let line = std::mem::replace(&mut self.line, OpenLine::new(self.limits));
        let mut job = line.job.finish();
        // Blanks at the ends of a refused line count, because the bytes that were dropped may have been blanks, too.
        if line.refusal.is_none() {
            job.text = job.text.trim_ascii().to_vec();
            if job.text.is_empty() {
                return Ok(None);
            }
        }
        self.hash(&job);
        if let Some(refusal) = line.refusal {
            return Ok(Some(BatchEntry::Refused {
                custom_id: None,
                problem: Box::new(refusal.into_client_problem()?),
            }));
        }
        Ok(Some(BatchEntry::Line(job)))
    }

    /// Hashes a line. The length comes first, so that lines of different bytes never hash the same bytes.
    fn hash(&mut self, line: &SplitJob) {
        self.hasher.update((line.text.len() as u64).to_be_bytes());
        self.hasher.update(&line.text);
        if let Some(dropped) = line.dropped_sha256 {
            self.hasher.update(dropped.as_bytes());
        }
    }

    /// The digest of all lines so far.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::finish(self.hasher.clone())
    }
}

fn too_long(line_bytes_max: usize) -> ApiError {
    let detail = format!("a line may have up to {line_bytes_max} bytes");
    ApiError::new(ProblemCode::ImageTooLarge, detail)
}

/// The refusal of a body that is larger than a batch may be.
pub(super) fn too_large(limits: &Limits) -> ApiError {
    let detail = format!("a batch may have up to {} bytes", limits.batch_bytes_max);
    ApiError::new(ProblemCode::InvalidRequest, detail)
        .with_status(actix_web::http::StatusCode::PAYLOAD_TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use jobs::Sha256Digest;
    use sha2::{Digest, Sha256};

    use super::Lines;
    use crate::{Config, batches::entry::BatchEntry, config::Limits};

    fn limits(line_bytes_max: usize) -> Limits {
        let database = ["--database-url", "postgres://nobody@localhost"];
        let mut limits = Config::parse_from(["darkroom-api"].into_iter().chain(database)).limits;
        limits.batch_line_bytes_max = line_bytes_max;
        limits
    }

    /// The lines of a body that arrives in pieces of this size; `!` for a refused line.
    fn cut(body: &str, piece: usize) -> (Vec<String>, Sha256Digest) {
        let limits = limits(8);
        let mut lines = Lines::new(&Sha256::new(), &limits);
        let mut out = Vec::new();
        let mut note = |entry| {
            out.push(match entry {
                BatchEntry::Line(line) => String::from_utf8(line.text).expect("text"),
                _ => "!".into(),
            });
        };
        for piece in body.as_bytes().chunks(piece) {
            lines.push(piece);
            while let Some(entry) = lines.next().expect("nothing fails") {
                note(entry);
            }
        }
        let last = lines.last().expect("nothing fails");
        last.into_iter().for_each(note);
        (out, lines.digest())
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_arrive() {
        let body = "one\r\n\n  \ntwo\nfar too long a line\nthree";
        let whole = cut(body, 1000);
        assert_eq!(whole.0, ["one", "two", "!", "three"]);
        for piece in 1..20 {
            assert_eq!(cut(body, piece), whole, "{piece}");
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
        assert_ne!(cut("far too long\n", 3).1, cut("far too late\n", 3).1);
    }

    #[test]
    fn the_digest_tells_images_apart_that_left_their_lines() {
        let limits = limits(1000);
        let digest = |data: &str| {
            let mut lines = Lines::new(&Sha256::new(), &limits);
            lines.push(format!("{{\"image\":{{\"data\":\"{data}\"}}}}\n").as_bytes());
            let Ok(Some(BatchEntry::Line(line))) = lines.next() else {
                panic!("{data} makes no line");
            };
            assert_eq!(line.text, br#"{"image":{"data":""}}"#);
            lines.digest()
        };
        assert_eq!(digest("QUJD"), digest("QUJD"));
        assert_ne!(digest("QUJD"), digest("QUJE"));
        assert_ne!(digest("!QUJD"), digest("!QUJE"));
    }

    #[test]
    fn no_more_than_one_line_is_held() {
        let limits = limits(8);
        let mut lines = Lines::new(&Sha256::new(), &limits);
        for _ in 0..1000 {
            lines.push(b"0123456789");
            assert!(lines.next().expect("nothing fails").is_none());
            assert!(lines.held_bytes() <= 8);
        }
    }

    #[test]
    fn a_line_that_is_no_image_is_not_held_beyond_the_limit_of_a_job() {
        let limits = limits(28_000_000);
        let mut lines = Lines::new(&Sha256::new(), &limits);
        lines.push(br#"{"custom_id":"a","metadata":{"a":["#);
        for _ in 0..1000 {
            lines.push(&b"0,".repeat(10_000));
            assert!(lines.next().expect("nothing fails").is_none());
            assert!(lines.held_bytes() <= 2 * limits.job_bytes_max);
        }
        lines.push(b"\n{}\n");
        for refused in [true, false] {
            let entry = lines.next().expect("nothing fails").expect("a line");
            assert_eq!(matches!(entry, BatchEntry::Refused { .. }), refused);
        }
    }
}
