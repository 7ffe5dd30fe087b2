//! The chunks of a PNG file: which hold the picture, and what is wrong with the others.

use crate::{Refusal, Warning};

/// One chunk. The file may end within it.
#[derive(Debug, Clone, Copy)]
struct Chunk<'file> {
    kind: [u8; 4],
    /// What the file has of the chunk's data.
    data: &'file [u8],
    /// What the checksum covers, and the checksum. `None` if the file ends within the chunk.
    checked: Option<(&'file [u8], [u8; 4])>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Right,
    Wrong,
    /// The file ends within the chunk.
    Missing,
}

impl Chunk<'_> {
    fn checksum(&self) -> Checksum {
        match self.checked {
            None => Checksum::Missing,
            Some((bytes, checksum)) if crc32fast::hash(bytes) == u32::from_be_bytes(checksum) => {
                Checksum::Right
            }
            Some(_) => Checksum::Wrong,
        }
    }
}

/// Iterates over chunks, also behind IEND.
#[derive(Debug, Clone)]
struct Chunks<'file> {
    rest: &'file [u8],
}

impl<'file> Iterator for Chunks<'file> {
    type Item = Chunk<'file>;

    fn next(&mut self) -> Option<Chunk<'file>> {
        let (length, named) = self.rest.split_first_chunk::<4>()?;
        let (kind, data) = named.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let whole = data.split_at_checked(length);
        let whole = whole.and_then(|(data, rest)| Some((data, rest.split_first_chunk::<4>()?)));
        let chunk = if let Some((data, (checksum, rest))) = whole {
            self.rest = rest;
            Chunk {
                kind: *kind,
                data,
                checked: Some((&named[..4 + length], *checksum)),
            }
        } else {
            self.rest = &[];
            Chunk {
                kind: *kind,
                data: &data[..length.min(data.len())],
                checked: None,
            }
        };
        Some(chunk)
    }
}

/// The data of one IDAT chunk after the other.
#[derive(Debug)]
pub(super) struct Data<'file>(Chunks<'file>);

impl<'file> Iterator for Data<'file> {
    type Item = &'file [u8];

    fn next(&mut self) -> Option<&'file [u8]> {
        loop {
            let chunk = self.0.next()?;
            match &chunk.kind {
                b"IDAT" => return Some(chunk.data),
                b"IEND" => self.0.rest = &[],
                _ => {}
            }
        }
    }
}

/// The parts of a PNG file that make the picture.
#[derive(Debug)]
pub(super) struct Parts<'file> {
    pub header: ImageHeader,
    /// The data of IHDR.
    pub header_data: &'file [u8; 13],
    /// The data of PLTE, if the pixels are indices.
    pub palette: Option<&'file [u8]>,
    /// The data of tRNS, if it fits the color type.
    pub transparency: Option<&'file [u8]>,
    from_data_on: Chunks<'file>,
    /// Bytes in all IDAT chunks.
    pub data_bytes: usize,
}

impl<'file> Parts<'file> {
    /// Finds the parts of a PNG file. Adds what is wrong with the rest of the file to `warnings`.
    ///
    /// # Errors
    /// [`Reason::Undecodable`](crate::Reason::Undecodable): a chunk that the picture needs is missing, is damaged, or is of an
    /// unknown kind.
    pub fn find(file: &'file [u8], warnings: &mut Vec<Warning>) -> Result<Self, Refusal> {
        let mut chunks = Chunks {
            rest: file.get(8..).ok_or_else(cut)?,
        };
        let (header, header_data) = ImageHeader::read(chunks.next().ok_or_else(cut)?)?;
        let mut parts = Self {
            header,
            header_data,
            palette: None,
            transparency: None,
            from_data_on: Chunks { rest: &[] },
            data_bytes: 0,
        };
        let mut is_ended = false;
        let mut has_data = false;
        let mut may_have_data = true;
        loop {
            let here = chunks.clone();
            let Some(chunk) = chunks.next() else { break };
            let checksum = chunk.checksum();
            // An upper-case first letter means critical: a decoder needs the chunk.
            let is_critical = chunk.kind[0].is_ascii_uppercase();
            match &chunk.kind {
                b"IDAT" => {
                    check(checksum)?;
                    if !may_have_data {
                        warnings.push(Warning::StrayBytes);
                    }
                    if !has_data {
                        (parts.from_data_on, has_data) = (here, true);
                    }
                    parts.data_bytes += chunk.data.len();
                    continue;
                }
                b"IEND" => {
                    if checksum == Checksum::Wrong {
                        warnings.push(Warning::BadChecksum);
                    }
                    is_ended = checksum != Checksum::Missing;
                    break;
                }
                _ if checksum == Checksum::Missing => break,
                b"PLTE" if !has_data => {
                    check(checksum)?;
                    parts.add_palette(chunk.data)?;
                }
                _ if is_critical && !has_data => {
                    return Err(Refusal::undecodable(
                        "the PNG has a chunk of an unknown kind that its picture may need",
                    ));
                }
                _ if is_critical => warnings.push(Warning::StrayBytes),
                _ if checksum == Checksum::Wrong => warnings.push(Warning::BadMetadata),
                b"tRNS" if !has_data && parts.add_transparency(chunk.data) => {}
                _ if is_sensible(&chunk) => {}
                _ => warnings.push(Warning::BadMetadata),
            }
            // IDAT chunks must follow each other.
            may_have_data = !has_data;
        }
        if !is_ended {
            warnings.push(Warning::MissingEnd);
        }
        if has_data { Ok(parts) } else { Err(cut()) }
    }

    pub fn data(&self) -> Data<'file> {
        Data(self.from_data_on.clone())
    }

    fn add_palette(&mut self, data: &'file [u8]) -> Result<(), Refusal> {
        // In other pictures a palette only suggests colors.
        if self.header.color_type != ImageHeader::INDEXED {
            return Ok(());
        }
        // The crate `png` panics over a palette of 4 bytes.
        let is_whole = (3..=768).contains(&data.len()) && data.len().is_multiple_of(3);
        if !is_whole || self.palette.is_some() {
            return Err(Refusal::undecodable("the palette of the PNG is damaged"));
        }
        self.palette = Some(data);
        Ok(())
    }

    /// Whether the data of a tRNS chunk fits this picture.
    fn add_transparency(&mut self, data: &'file [u8]) -> bool {
        let fits = match self.header.color_type {
            ImageHeader::GRAY => data.len() == 2,
            ImageHeader::RGB => data.len() == 6,
            ImageHeader::INDEXED => self
                .palette
                .is_some_and(|palette| (1..=palette.len() / 3).contains(&data.len())),
            _ => false,
        };
        let is_taken = fits && self.transparency.is_none();
        if is_taken {
            self.transparency = Some(data);
        }
        is_taken
    }
}

/// What IHDR says.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageHeader {
    pub width: u32,
    pub height: u32,
    bit_depth: u8,
    color_type: u8,
    pub is_interlaced: bool,
}

impl ImageHeader {
    const GRAY: u8 = 0;
    const RGB: u8 = 2;
    const INDEXED: u8 = 3;

    fn read(chunk: Chunk<'_>) -> Result<(Self, &[u8; 13]), Refusal> {
        let data: Option<&[u8; 13]> = chunk.data.try_into().ok();
        let is_right = &chunk.kind == b"IHDR" && chunk.checksum() == Checksum::Right;
        let Some(data) = data.filter(|_| is_right) else {
            return Err(Refusal::undecodable("the header of the PNG is damaged"));
        };
        let &[
            w0,
            w1,
            w2,
            w3,
            h0,
            h1,
            h2,
            h3,
            bit_depth,
            color_type,
            ..,
            interlace,
        ] = data;
        let header = Self {
            width: u32::from_be_bytes([w0, w1, w2, w3]),
            height: u32::from_be_bytes([h0, h1, h2, h3]),
            bit_depth,
            color_type,
            is_interlaced: interlace != 0,
        };
        Ok((header, data))
    }

    /// Bytes of all rows before compression, each with the byte that names its filter.
    pub fn row_bytes_in_all(&self) -> u64 {
        if !self.is_interlaced {
            return self.pass_bytes(self.width, self.height);
        }
        // The seven passes of Adam7: first column and row, then the steps between columns and rows.
        let passes = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ];
        let bytes = passes.map(|(x, y, step_x, step_y)| {
            self.pass_bytes(
                self.width.saturating_sub(x).div_ceil(step_x),
                self.height.saturating_sub(y).div_ceil(step_y),
            )
        });
        bytes
            .iter()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn pass_bytes(&self, width: u32, height: u32) -> u64 {
        if width == 0 {
            return 0;
        }
        let channels = match self.color_type {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        let row_bits = u64::from(width) * channels * u64::from(self.bit_depth);
        (1 + row_bits.div_ceil(8)).saturating_mul(u64::from(height))
    }
}

/// Whether an ancillary chunk has the length or the keyword that the specification asks for.
fn is_sensible(chunk: &Chunk) -> bool {
    let length = chunk.data.len();
    match &chunk.kind {
        b"gAMA" => length == 4,
        b"cHRM" => length == 32,
        b"sRGB" => length == 1,
        b"pHYs" => length == 9,
        b"tIME" => length == 7,
        b"sBIT" => (1..=4).contains(&length),
        b"bKGD" => (1..=6).contains(&length),
        b"tRNS" => false,
        b"tEXt" | b"zTXt" | b"iTXt" | b"iCCP" => {
            let keyword = chunk.data.iter().take(80).position(|byte| *byte == 0);
            keyword.is_some_and(|length| length > 0)
        }
        _ => true,
    }
}

fn check(checksum: Checksum) -> Result<(), Refusal> {
    if checksum == Checksum::Wrong {
        return Err(Refusal::undecodable("a checksum of the PNG is wrong"));
    }
    Ok(())
}

pub(super) fn cut() -> Refusal {
    Refusal::undecodable("the PNG is cut short")
}
