//! Multipart forms as programs send them: browsers, curl, .NET, `JavaMail`.

mod parameters;

use actix_web::{
    HttpRequest,
    http::header::{CONTENT_TYPE, HeaderValue},
    web::Payload,
};
use bytes::{Buf, Bytes, BytesMut};
use jobs::ProblemCode;
use memchr::{memchr, memmem};

use self::parameters::{decode_text, file_name, parameter};
use super::{base64_text::Base64Decoder, body::BodyClock, error::ApiError};

pub(crate) const FORM_DATA: &str = "multipart/form-data";
/// RFC 2046 allows 70.
const BOUNDARY_BYTES_MAX: usize = 200;
/// Most bytes of the headers of one part.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Whether the body of the request is a form.
pub(crate) fn is_form(request: &HttpRequest) -> bool {
    let kind = content_type(request).split(|byte| *byte == b';').next();
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(FORM_DATA.as_bytes()))
}

fn content_type(request: &HttpRequest) -> &[u8] {
    let value = request.headers().get(CONTENT_TYPE);
    value.map_or(&[], HeaderValue::as_bytes)
}

/// Reads a form part by part. Holds the bytes that have arrived and were not taken yet.
pub(crate) struct Multipart {
    body: Payload,
    /// What comes before each part and after the last one: a line break, two hyphens, the boundary.
    delimiter: memmem::Finder<'static>,
    buffer: BytesMut,
    /// The part is in base64.
    base64: Option<Base64Decoder>,
    place: Place,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Before the first part, or in a part.
    Content,
    /// At a delimiter.
    Delimiter,
    End,
}

/// What the headers of a part say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    pub name: String,
    /// As the client wrote it, with all parts of a path.
    pub file_name: Option<String>,
    is_base64: bool,
}

impl Multipart {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// `invalid_request`: the header has no boundary.
    pub fn new(request: &HttpRequest, body: Payload) -> Result<Self, ApiError> {
        let boundary = parameter(content_type(request), "boundary").unwrap_or_default();
        if !(1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) {
            return Err(invalid("the Content-Type of a form names its boundary"));
        }
        let delimiter = [b"\r\n--".as_slice(), &boundary].concat();
        Ok(Self {
            body,
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            // The first delimiter may begin the body, without a line break before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            base64: None,
            place: Place::Content,
        })
    }

    /// The next part; `None` at the end. The part before it must have been read to its end.
    ///
    /// # Errors
    /// `invalid_request`: the form is invalid or ends early. As of [`BodyClock::next`].
    pub async fn next_part(&mut self, clock: &BodyClock) -> Result<Option<PartHead>, ApiError> {
        let mut skipped = 0;
        while let Some(preamble) = self.content(clock).await? {
            skipped += preamble.len();
            if skipped > HEAD_BYTES_MAX {
                return Err(invalid(
                    "the body does not begin with the boundary of the form",
                ));
            }
        }
        if self.place == Place::End {
            return Ok(None);
        }
        self.buffer.advance(self.delimiter.needle().len());
        while self.buffer.len() < 2 {
            self.fill(clock).await?;
        }
        if self.buffer.starts_with(b"--") {
            self.place = Place::End;
            return Ok(None);
        }
        let head = self.head(clock).await?;
        self.base64 = head.is_base64.then(Base64Decoder::new);
        self.place = Place::Content;
        Ok(Some(head))
    }

    /// Reads the headers of a part.
    async fn head(&mut self, clock: &BodyClock) -> Result<PartHead, ApiError> {
        let mut bytes_left = HEAD_BYTES_MAX;
        let rest_of_delimiter = self.line(clock, &mut bytes_left).await?;
        if !rest_of_delimiter.trim_ascii().is_empty() {
            return Err(invalid("a line of the form only begins with its boundary"));
        }
        let mut lines: Vec<Vec<u8>> = Vec::new();
        loop {
            let line = self.line(clock, &mut bytes_left).await?;
            match (line.first(), lines.last_mut()) {
                (None, _) => return PartHead::of(&lines),
                // JavaMail folds long headers: a line that begins with a blank continues the one before it.
                (Some(b' ' | b'\t'), Some(before)) => {
                    before.push(b' ');
                    before.extend_from_slice(line.trim_ascii_start());
                }
                _ => lines.push(line.to_vec()),
            }
        }
    }

    /// The next line, without its end. Takes its bytes from `bytes_left`.
    async fn line(
        &mut self,
        clock: &BodyClock,
        bytes_left: &mut usize,
    ) -> Result<BytesMut, ApiError> {
        loop {
            match memchr(b'\n', &self.buffer) {
                Some(end) if end < *bytes_left => {
                    *bytes_left -= end + 1;
                    let mut line = self.buffer.split_to(end + 1);
                    line.truncate(end);
                    if line.ends_with(b"\r") {
                        line.truncate(end - 1);
                    }
                    return Ok(line);
                }
                None if self.buffer.len() < *bytes_left => self.fill(clock).await?,
                _ => return Err(invalid("the headers of a part are too long")),
            }
        }
    }

    /// The next bytes before a delimiter; `None` at the delimiter.
    async fn content(&mut self, clock: &BodyClock) -> Result<Option<Bytes>, ApiError> {
        while self.place == Place::Content {
            let certain = match self.delimiter.find(&self.buffer) {
                Some(0) => {
                    self.place = Place::Delimiter;
                    break;
                }
                Some(at) => at,
                // The last bytes may be the beginning of a delimiter.
                None => (self.buffer.len() + 1).saturating_sub(self.delimiter.needle().len()),
            };
            if certain > 0 {
                return Ok(Some(self.buffer.split_to(certain).freeze()));
            }
            self.fill(clock).await?;
        }
        Ok(None)
    }

    /// Adds the next bytes of the body to the buffer.
    async fn fill(&mut self, clock: &BodyClock) -> Result<(), ApiError> {
        let chunk = clock.next(&mut self.body).await?;
        let chunk = chunk.ok_or_else(|| invalid("the form ends before its last boundary"))?;
        self.buffer.extend_from_slice(&chunk);
        Ok(())
    }

    /// The next bytes of the part; `None` at its end.
    ///
    /// # Errors
    /// As of [`Self::next_part`].
    pub async fn chunk(&mut self, clock: &BodyClock) -> Result<Option<Bytes>, ApiError> {
        let not_base64 = |_| invalid("a part is not the base64 that its headers promise");
        let content = self.content(clock).await?;
        let Some(decoder) = &mut self.base64 else {
            return Ok(content);
        };
        if let Some(content) = content {
            let bytes = decoder.push(&content).map_err(not_base64)?;
            return Ok(Some(Bytes::copy_from_slice(bytes)));
        }
        let last = Bytes::copy_from_slice(decoder.finish().map_err(not_base64)?);
        self.base64 = None;
        Ok((!last.is_empty()).then_some(last))
    }

    /// Reads the rest of the part, at most `bytes_max` bytes; fails with `too_long` past them.
    pub async fn read_all(
        &mut self,
        clock: &BodyClock,
        bytes_max: usize,
        too_long: impl FnOnce() -> ApiError,
    ) -> Result<Vec<u8>, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(clock).await? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Bytes that have arrived and were not taken yet.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }
}

impl PartHead {
    /// Reads the headers. Only two of them count.
    fn of(lines: &[Vec<u8>]) -> Result<Self, ApiError> {
        let (mut head, mut is_named) = (Self::default(), false);
        for line in lines {
            let Some(colon) = memchr(b':', line) else {
                return Err(invalid("a header of a part has no colon"));
            };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-disposition") {
                let kind = value.split(|byte| *byte == b';').next();
                let is_form_data =
                    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"form-data"));
                let name = parameter(value, "name").filter(|_| is_form_data);
                is_named = name.is_some();
                head.name = name.as_deref().map(decode_text).unwrap_or_default();
                head.file_name = file_name(value);
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                head.is_base64 = value.eq_ignore_ascii_case(b"base64");
                let is_coding = |coding: &str| value.eq_ignore_ascii_case(coding.as_bytes());
                if !head.is_base64 && !["binary", "7bit", "8bit"].into_iter().any(is_coding) {
                    let detail = "the Content-Transfer-Encoding of a part can be base64, binary, 7bit or 8bit";
                    return Err(invalid(detail));
                }
            }
        }
        if is_named {
            Ok(head)
        } else {
            Err(invalid(
                "each part has a Content-Disposition of form-data with its name",
            ))
        }
    }
}

fn invalid(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::InvalidRequest, detail)
}

#[cfg(test)]
mod tests;
