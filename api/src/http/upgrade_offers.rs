//! Offers of another protocol in requests (`Upgrade: h2c`, `Upgrade: websocket`): a server may ignore these, and this one does.
//!
//! Actix cannot ignore an offer. It closes the connection after the response, and it takes everything after the head of an
//! offer of `WebSocket` for a body without an end. So an offer is made unreadable before Actix sees it.

use std::ops::Range;

/// Longest head of a request; Actix refuses a longer one.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// Most headers of a request; Actix refuses more.
const HEADERS_MAX: usize = 96;
/// Stands for `upgrade`: as a header, and as an option of the header `connection`. Of the length of that word, so that nothing
/// moves.
const IGNORED: &[u8; 7] = b"x-offer";

/// Follows the bytes that a client sends, and ignores the offers in the heads of its requests.
#[derive(Debug, Default)]
pub(crate) struct UpgradeOffers {
    place: Place,
}

/// Where in the bytes of a connection the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Head,
    /// In a body; this many bytes of it are left.
    Body(u64),
    Chunks(Chunks),
    /// In something that Actix will refuse. Nothing is changed any more.
    Unknown,
}

/// Where in a chunked body the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    Size(u64),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailersEnd,
}

impl UpgradeOffers {
    /// Changes the offers in the next bytes of a connection. Returns how many of these may go on; the rest is the beginning of
    /// a head. The caller passes it again, with what comes next.
    pub fn ignore(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match self.place {
                Place::Unknown => return bytes.len(),
                Place::Body(left) => {
                    let passed = left.min((bytes.len() - at) as u64);
                    at += passed as usize;
                    self.place = match left - passed {
                        0 => Place::Head,
                        left => Place::Body(left),
                    };
                }
                Place::Chunks(chunks) => {
                    let (next, passed) = chunks.pass(&bytes[at..]);
                    at += passed;
                    self.place = next;
                }
                Place::Head => match read_head(&bytes[at..]) {
                    Some(head) => {
                        for offer in head.offers {
                            bytes[at..][offer].copy_from_slice(IGNORED);
                        }
                        at += head.length;
                        self.place = head.next;
                    }
                    None if bytes.len() - at > HEAD_BYTES_MAX => self.place = Place::Unknown,
                    None => return at,
                },
            }
        }
        at
    }
}

struct Head {
    length: usize,
    /// Where the words `upgrade` are.
    offers: Vec<Range<usize>>,
    /// What comes after the head.
    next: Place,
}

/// Reads the head of a request; `None` if it is not complete.
fn read_head(bytes: &[u8]) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let unknown = Head {
        length: bytes.len(),
        offers: Vec::new(),
        next: Place::Unknown,
    };
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return Some(unknown),
    };
    let mut offers = Vec::new();
    let (mut body, mut is_chunked) = (None, false);
    for header in &*request.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("upgrade") {
            offers.push(range_in(bytes, header.name.as_bytes()));
        } else if is("connection") {
            let options = header.value.split(|byte| *byte == b',');
            let options = options.map(<[u8]>::trim_ascii);
            let offered = options.filter(|option| option.eq_ignore_ascii_case(b"upgrade"));
            offers.extend(offered.map(|option| range_in(bytes, option)));
        } else if is("content-length") {
            let length = std::str::from_utf8(header.value).ok();
            let length = length.and_then(|text| text.trim().parse::<u64>().ok());
            // Actix refuses two lengths, and a length that is none.
            if length.is_none() || body.is_some() {
                return Some(unknown);
            }
            body = length;
        } else if is("transfer-encoding") {
            let coding = header.value.trim_ascii();
            if is_chunked || !coding.eq_ignore_ascii_case(b"chunked") {
                return Some(unknown);
            }
            is_chunked = true;
        }
    }
    let next = match (is_chunked, body) {
        (true, Some(_)) => Place::Unknown,
        (true, None) => Place::Chunks(Chunks::Size(0)),
        (false, None | Some(0)) if request.method == Some("CONNECT") => Place::Unknown,
        (false, None | Some(0)) => Place::Head,
        (false, Some(length)) => Place::Body(length),
    };
    Some(Head {
        length,
        offers,
        next,
    })
}

/// Where `part` lies in `whole`, which contains it.
fn range_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

impl Chunks {
    /// Passes as many bytes as belong to the body. Returns where the next byte is, and how many bytes were passed.
    fn pass(mut self, bytes: &[u8]) -> (Place, usize) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Self::Data(left) = self {
                let passed = left.min((bytes.len() - at) as u64);
                at += passed as usize;
                self = match left - passed {
                    0 => Self::DataEnd,
                    left => Self::Data(left),
                };
                continue;
            }
            at += 1;
            self = match (self, byte) {
                (Self::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let digit = char::from(byte).to_digit(16).unwrap_or_default();
                    let Some(size) = size.checked_mul(16) else {
                        return (Place::Unknown, at);
                    };
                    Self::Size(size + u64::from(digit))
                }
                (Self::Size(size) | Self::Extension(size), b'\r') => Self::SizeEnd(size),
                (Self::Size(size), b';' | b' ' | b'\t') | (Self::Extension(size), _) => {
                    Self::Extension(size)
                }
                (Self::SizeEnd(0) | Self::Trailer, b'\n') => Self::TrailerStart,
                (Self::SizeEnd(size), b'\n') => Self::Data(size),
                (Self::DataEnd, b'\r') => Self::DataLineFeed,
                (Self::DataLineFeed, b'\n') => Self::Size(0),
                (Self::TrailerStart, b'\r') => Self::TrailersEnd,
                (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
                (Self::TrailersEnd, b'\n') => return (Place::Head, at),
                _ => return (Place::Unknown, at),
            };
        }
        (Place::Chunks(self), at)
    }
}

#[cfg(test)]
mod tests;
