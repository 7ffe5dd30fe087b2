//! Boxes of an ISO base media file (ISO/IEC 14496-12), and integers in these.

use std::io::{self, Read, Seek, SeekFrom};

/// Most boxes before the box `meta`. Real files have one or two.
const LEADING_BOXES_MAX: usize = 64;

/// Most bytes of the box `meta`. It may hold color profiles and EXIF data, but pixels only of tiny images.
const META_BYTES_MAX: u64 = 8 << 20;

/// Reads the content of the box `meta`, which tells everything but the pixels.
///
/// # Errors
/// The file has no such box, is cut short, or cannot be read.
pub(crate) fn read_meta(mut file: impl Read + Seek) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    for _ in 0..LEADING_BOXES_MAX {
        let (length, kind) = read_box_header(&mut file)?;
        if &kind == b"meta" {
            let length = length.unwrap_or(META_BYTES_MAX);
            if length > META_BYTES_MAX {
                return Err(broken("the box meta is too long"));
            }
            let mut meta = Vec::new();
            file.take(length).read_to_end(&mut meta)?;
            return if (meta.len() as u64) < length && length < META_BYTES_MAX {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(meta)
            };
        }
        let length = length.and_then(|length| i64::try_from(length).ok());
        file.seek(SeekFrom::Current(
            length.ok_or_else(|| broken("no box meta"))?,
        ))?;
    }
    Err(broken("no box meta among the first boxes"))
}

/// The bytes that follow the header of a box, or none if the box reaches to the end of the file; and the type of the box.
fn read_box_header(file: &mut impl Read) -> io::Result<(Option<u64>, [u8; 4])> {
    let mut header = [0; 8];
    file.read_exact(&mut header)?;
    let ([length @ .., _, _, _, _], [_, _, _, _, kind @ ..]) = (header, header);
    let content = match u32::from_be_bytes(length) {
        0 => return Ok((None, kind)),
        1 => {
            let mut length = [0; 8];
            file.read_exact(&mut length)?;
            u64::from_be_bytes(length).checked_sub(16)
        }
        length => u64::from(length).checked_sub(8),
    };
    let content = content.ok_or_else(|| broken("a box is shorter than its header"))?;
    Ok((Some(content), kind))
}

fn broken(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

/// A box: its type and its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsoBox<'a> {
    pub kind: [u8; 4],
    pub content: Bytes<'a>,
}

/// Bytes that are read from the front. Each method returns nothing if there are too few.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// An integer of up to 8 bytes; 0 if of none.
    pub fn uint(&mut self, bytes: u8) -> Option<u64> {
        if bytes > 8 {
            return None;
        }
        let digits = self.take(bytes.into())?;
        Some(
            digits
                .iter()
                .fold(0, |sum, digit| (sum << 8) | u64::from(*digit)),
        )
    }

    /// The version and the flags of a "full box".
    pub fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    pub fn next_box(&mut self) -> Option<IsoBox<'a>> {
        let mut file = self.0;
        let (length, kind) = read_box_header(&mut file).ok()?;
        let length = length.map_or(Some(file.len()), |length| usize::try_from(length).ok())?;
        let (content, rest) = file.split_at_checked(length)?;
        self.0 = rest;
        Some(IsoBox {
            kind,
            content: Bytes(content),
        })
    }

    /// All boxes, or nothing if the last one is cut short.
    pub fn boxes(mut self) -> Option<Vec<IsoBox<'a>>> {
        let mut boxes = Vec::new();
        while !self.0.is_empty() {
            boxes.push(self.next_box()?);
        }
        Some(boxes)
    }
}
