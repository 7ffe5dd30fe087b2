//! The JSON of a job, read as it arrives. The image goes to a spool piece by piece; the rest is small and stays in memory.

use jobs::{ProblemCode, Sha256Digest};
use memchr::memchr2;
use sha2::{Digest, Sha256};

use super::spool::{Spool, Upload};
use crate::{
    config::Limits,
    http::{base64_text::Base64Decoder, error::ApiError},
};

/// The text may be longer than the job that it describes, because JSON may be indented.
pub(crate) const TEXT_PER_JOB: usize = 2;
/// Longest field name that a refusal repeats, in bytes.
const POINTER_BYTES_MAX: usize = 64;

/// Splits the JSON of a job into the image and the rest, without building a tree.
///
/// Only strings and brackets are understood here. Whether the rest is valid JSON is for serde to say.
#[derive(Debug)]
pub(crate) struct JobJson<'a> {
    limits: &'a Limits,
    /// The JSON with an empty text in place of the image's base64.
    text: Vec<u8>,
    place: Place,
    /// Open brackets.
    depth: usize,
    /// Whether each of the two outer brackets is that of an object.
    is_object: [bool; 2],
    /// The next string is a name of one of the two outer objects.
    expects_name: bool,
    /// Where the current string begins in `text`.
    string_start: usize,
    /// The last name in the outer object, as a range of `text`.
    field: (usize, usize),
    /// The last names are `image`, and `data` within.
    is_image: bool,
    is_data: bool,
    image: Option<InlineImage<'a>>,
    /// Of what is not kept as text: the base64, and what the caller drops.
    hasher: Option<Sha256>,
}

/// Where in the JSON the next byte is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Outside,
    /// In a string that is kept.
    String {
        is_escaped: bool,
    },
    /// In the base64 of the image.
    Data(Escape),
}

/// How far an escape within a string has come.
#[derive(Debug, Clone, Copy)]
enum Escape {
    No,
    Backslash,
    Unicode { digits: u8, code: u32 },
}

#[derive(Debug)]
struct InlineImage<'a> {
    decoder: Base64Decoder,
    /// The bytes so far, or why they were refused.
    spool: Result<Spool<'a>, ApiError>,
}

/// A job that has arrived.
#[derive(Debug)]
pub(crate) struct SplitJob {
    /// JSON with an empty text in place of the image's base64.
    pub text: Vec<u8>,
    /// The image, if it came as base64: stored in a spool, or why it was refused.
    pub image: Option<Result<Upload, ApiError>>,
    /// The digest of all bytes that are not in `text`; `None` unless it was asked for.
    pub dropped_sha256: Option<Sha256Digest>,
}

impl<'a> JobJson<'a> {
    pub fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            text: Vec::new(),
            place: Place::Outside,
            depth: 0,
            is_object: [false; 2],
            expects_name: false,
            string_start: 0,
            field: (0, 0),
            is_image: false,
            is_data: false,
            image: None,
            hasher: None,
        }
    }

    /// Also hashes the bytes that are not kept as text.
    pub fn hashing(limits: &'a Limits) -> Self {
        Self {
            hasher: Some(Sha256::new()),
            ..Self::new(limits)
        }
    }

    /// Takes bytes. Returns how many: fewer than came once the rest is longer than it may be.
    pub fn push(&mut self, chunk: &[u8]) -> usize {
        let mut taken = 0;
        while taken < chunk.len() {
            let piece = &chunk[taken..];
            taken += match self.place {
                Place::Data(escape) => self.push_data(escape, piece),
                _ if self.text.len() >= self.limits.job_bytes_max * TEXT_PER_JOB => break,
                _ => {
                    self.push_text(piece[0]);
                    1
                }
            };
        }
        taken
    }

    /// Hashes bytes that are not read any more.
    pub fn drop_bytes(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    /// Bytes of memory and disk in use, roughly.
    pub fn held_bytes(&self) -> usize {
        let image = self.image.as_ref().and_then(|one| one.spool.as_ref().ok());
        self.text.len() + image.map_or(0, Spool::bytes)
    }

    /// The refusal of a job that is too long without its image.
    pub fn too_long(&self) -> ApiError {
        let bytes_max = self.limits.job_bytes_max;
        let detail = format!("without its image, a job may have up to {bytes_max} bytes");
        let name = &self.text[self.field.0..self.field.1];
        match std::str::from_utf8(name) {
            Ok(name) if (1..=POINTER_BYTES_MAX).contains(&name.len()) => {
                ApiError::invalid_field(&format!("/{name}"), "too_large", &detail)
            }
            _ => ApiError::new(ProblemCode::InvalidRequest, detail),
        }
    }

    pub fn finish(self) -> SplitJob {
        let image = self.image.map(|mut image| {
            let mut spool = image.spool?;
            spool.push(image.decoder.finish().map_err(|_| not_base64())?)?;
            spool.finish()
        });
        SplitJob {
            text: self.text,
            image,
            dropped_sha256: self.hasher.map(Sha256Digest::finish),
        }
    }

    fn push_text(&mut self, byte: u8) {
        self.text.push(byte);
        match self.place {
            Place::String { is_escaped: true } => self.place = Place::String { is_escaped: false },
            Place::String { .. } => match byte {
                b'\\' => self.place = Place::String { is_escaped: true },
                b'"' => self.end_string(),
                _ => {}
            },
            _ => self.push_outside(byte),
        }
    }

    /// A byte between strings. What is no JSON moves these states anywhere, and is refused by serde.
    fn push_outside(&mut self, byte: u8) {
        match byte {
            b'"' if self.is_at_data() => {
                self.place = Place::Data(Escape::No);
                self.image = Some(InlineImage {
                    decoder: Base64Decoder::new(),
                    spool: Ok(Spool::new(self.limits, 0)),
                });
            }
            b'"' => {
                self.place = Place::String { is_escaped: false };
                self.string_start = self.text.len();
            }
            b'{' | b'[' => {
                self.depth += 1;
                if let Some(is_object) = self.is_object.get_mut(self.depth - 1) {
                    *is_object = byte == b'{';
                }
                self.expects_name = self.is_in_outer_object();
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.expects_name = false;
            }
            b',' => self.expects_name = self.is_in_outer_object(),
            b':' => self.expects_name = false,
            _ => {}
        }
    }

    fn is_in_outer_object(&self) -> bool {
        let innermost = self.depth.checked_sub(1);
        innermost.is_some_and(|at| self.is_object.get(at) == Some(&true))
    }

    /// Whether the next string is the base64 of the image. A second one stays in the text.
    fn is_at_data(&self) -> bool {
        let is_there = self.depth == 2 && self.is_object == [true; 2];
        is_there && self.is_data && !self.expects_name && self.image.is_none()
    }

    fn end_string(&mut self) {
        self.place = Place::Outside;
        if !self.expects_name {
            return;
        }
        let name = (self.string_start, self.text.len() - 1);
        let plain = &self.text[name.0..name.1];
        let unescaped = plain.contains(&b'\\').then(|| {
            let quoted = &self.text[name.0 - 1..=name.1];
            serde_json::from_slice::<String>(quoted).unwrap_or_default()
        });
        let plain = unescaped.as_deref().map_or(plain, str::as_bytes);
        let (is_image, is_data) = (plain == b"image", plain == b"data");
        let repeats = if self.depth == 1 {
            self.is_image = is_image;
            self.is_data = false;
            self.field = name;
            self.is_image
        } else {
            self.is_data = self.is_image && is_data;
            self.is_data
        };
        if repeats && let Some(image) = &mut self.image {
            let detail = "is given more than once";
            image.spool = Err(ApiError::invalid_field("/image", "invalid", detail));
        }
    }

    /// Takes bytes of the base64. Returns how many.
    fn push_data(&mut self, escape: Escape, piece: &[u8]) -> usize {
        let byte = piece[0];
        let taken = match escape {
            Escape::No => {
                let end = memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                self.decode(&piece[..end]);
                match piece.get(end) {
                    Some(b'"') => {
                        self.text.push(b'"');
                        self.place = Place::Outside;
                    }
                    Some(_) => self.place = Place::Data(Escape::Backslash),
                    None => {}
                }
                piece.len().min(end + 1)
            }
            Escape::Backslash if byte == b'u' => {
                self.place = Place::Data(Escape::Unicode { digits: 0, code: 0 });
                1
            }
            Escape::Backslash => {
                // Each of these three is white space in base64.
                let byte = match byte {
                    b'n' | b'r' | b't' => b' ',
                    b'/' => b'/',
                    _ => b'\\',
                };
                self.decode(&[byte]);
                self.place = Place::Data(Escape::No);
                1
            }
            Escape::Unicode { digits, code } => {
                let digit = char::from(byte).to_digit(16);
                let code = digit.map_or(u32::MAX, |digit| (code << 4) | digit);
                self.place = Place::Data(Escape::Unicode {
                    digits: digits + 1,
                    code,
                });
                if digit.is_none() || digits == 3 {
                    self.place = Place::Data(Escape::No);
                    self.decode(&[u8::try_from(code).unwrap_or(b'\\')]);
                }
                // What is no digit may be the end of the string.
                usize::from(digit.is_some())
            }
        };
        self.drop_bytes(&piece[..taken]);
        taken
    }

    /// Decodes a piece of the base64 into the spool. After a refusal the rest is dropped.
    fn decode(&mut self, piece: &[u8]) {
        let image = self.image.as_mut().expect("made at the start of the data");
        let Ok(spool) = &mut image.spool else {
            return;
        };
        let pushed = match image.decoder.push(piece) {
            Ok(bytes) => spool.push(bytes),
            Err(_) => Err(not_base64()),
        };
        if let Err(error) = pushed {
            image.spool = Err(error);
        }
    }
}

/// Reads an image from base64 that is in memory.
pub(crate) fn read_base64(text: &str, limits: &Limits) -> Result<Upload, ApiError> {
    let mut decoder = Base64Decoder::new();
    let mut spool = Spool::new(limits, text.len() / 4 * 3);
    spool.push(decoder.push(text.as_bytes()).map_err(|_| not_base64())?)?;
    spool.push(decoder.finish().map_err(|_| not_base64())?)?;
    spool.finish()
}

fn not_base64() -> ApiError {
    let detail = "must be base64, or a data URI of base64";
    ApiError::invalid_field("/image/data", "invalid", detail)
}

#[cfg(test)]
mod tests;
