//! The header of a WebP: the size of its canvas and the size in the bitstream of its first frame, which must agree.
//!
//! The chunk EXIF turns a WebP at any place in the file, and without its flag in the header, too.

mod bitstream;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Seek, SeekFrom};

use self::bitstream::Bitstream;
use super::{Header, broken, cut_short, exif::ExifBlocks, read_array, skip};
use crate::{Format, Refusal, Warning};

/// Most chunks that are read. Each frame of an animation is one.
const CHUNKS_MAX: usize = 1 << 16;

/// Most chunks of a frame before its pixels. There is one, with its alpha.
const FRAME_CHUNKS_MAX: usize = 8;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let _riff: [u8; 4] = read_array(image)?;
    let riff_bytes = u64::from(u32::from_le_bytes(read_array(image)?));
    let _webp: [u8; 4] = read_array(image)?;
    let chunk = Chunk::read(image)?;
    let mut header = if &chunk.name == b"VP8X" {
        let canvas = Canvas::read(image, &chunk)?;
        // A size that leaves no room for a chunk is no size: programs that write to a stream leave 0.
        let mut left = if riff_bytes < 12 {
            u64::MAX
        } else {
            riff_bytes - 4
        };
        left = left.saturating_sub(chunk.whole_bytes());
        Parts::read(image, left, &canvas)?.header(&canvas)?
    } else {
        let frame = Bitstream::read(image, &chunk)?;
        Header::new(Format::Webp, frame.size, frame.layout(false, frame.size))
    };
    let file_bytes = image.seek(SeekFrom::End(0)).map_err(cut_short)?;
    if riff_bytes < 12 || riff_bytes + 8 > file_bytes {
        header.warnings.push(Warning::BadHeader);
    }
    Ok(header)
}

/// Name and length of a chunk.
struct Chunk {
    name: [u8; 4],
    bytes: u64,
}

impl Chunk {
    fn read(image: &mut impl BufRead) -> Result<Self, Refusal> {
        Ok(Self {
            name: read_array(image)?,
            bytes: u32::from_le_bytes(read_array(image)?).into(),
        })
    }

    /// Bytes of the chunk with its name, its length and its padding.
    fn whole_bytes(&self) -> u64 {
        8 + self.bytes.next_multiple_of(2)
    }

    /// Moves behind the chunk. `read` bytes of its data have been read.
    fn skip_rest(&self, image: &mut impl Seek, read: u64) -> Result<(), Refusal> {
        skip(image, self.bytes.next_multiple_of(2).saturating_sub(read))
    }
}

/// The chunk VP8X.
struct Canvas {
    size: (u32, u32),
    has_profile: bool,
    has_alpha: bool,
    has_exif: bool,
    has_xmp: bool,
    is_animated: bool,
}

impl Canvas {
    fn read(image: &mut (impl BufRead + Seek), chunk: &Chunk) -> Result<Self, Refusal> {
        let [flags, _r0, _r1, _r2, w0, w1, w2, h0, h1, h2] = read_array(image)?;
        chunk.skip_rest(image, 10)?;
        Ok(Self {
            size: (1 + number([w0, w1, w2]), 1 + number([h0, h1, h2])),
            has_profile: flags & 0x20 != 0,
            has_alpha: flags & 0x10 != 0,
            has_exif: flags & 0x08 != 0,
            has_xmp: flags & 0x04 != 0,
            is_animated: flags & 0x02 != 0,
        })
    }
}

fn number([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

/// What the chunks behind VP8X say.
#[derive(Default)]
struct Parts {
    frame: Option<Frame>,
    has_alpha_chunk: bool,
    has_profile: bool,
    has_xmp: bool,
    exif: ExifBlocks,
}

struct Frame {
    /// Pixels from the left and from the top of the canvas.
    at: (u32, u32),
    size: (u32, u32),
    bitstream: Bitstream,
}

impl Parts {
    /// Reads the chunks of the next `left` bytes.
    fn read(
        image: &mut (impl BufRead + Seek),
        mut left: u64,
        canvas: &Canvas,
    ) -> Result<Self, Refusal> {
        let mut parts = Self::default();
        for _ in 0..CHUNKS_MAX {
            // The end of the file.
            let Ok(chunk) = Chunk::read(image) else { break };
            let mut read = 0;
            match &chunk.name {
                _ if left < 8 => break,
                b"VP8 " | b"VP8L" if !canvas.is_animated && parts.frame.is_none() => {
                    let bitstream = Bitstream::read(image, &chunk)?;
                    read = Bitstream::header_bytes(chunk.name);
                    parts.frame = Some(Frame {
                        at: (0, 0),
                        size: canvas.size,
                        bitstream,
                    });
                }
                b"ANMF" if canvas.is_animated && parts.frame.is_none() => {
                    read = parts.read_frame(image)?;
                }
                b"ALPH" if parts.frame.is_none() => parts.has_alpha_chunk = true,
                b"ICCP" => parts.has_profile = true,
                b"XMP " => parts.has_xmp = true,
                b"EXIF" => {
                    // A cut block is a broken block.
                    let _cut = parts.exif.read(image, chunk.bytes);
                    read = chunk.bytes;
                }
                _ => {}
            }
            chunk.skip_rest(image, read)?;
            left = left.saturating_sub(chunk.whole_bytes());
        }
        Ok(parts)
    }

    /// Reads a chunk ANMF up to the header of its pixels. Returns how many bytes it read.
    fn read_frame(&mut self, image: &mut (impl BufRead + Seek)) -> Result<u64, Refusal> {
        let at = [number(read_array(image)?), number(read_array(image)?)];
        let size = [number(read_array(image)?), number(read_array(image)?)];
        let _duration_and_flags: [u8; 4] = read_array(image)?;
        let mut read = 16;
        for _ in 0..FRAME_CHUNKS_MAX {
            let chunk = Chunk::read(image)?;
            if matches!(&chunk.name, b"VP8 " | b"VP8L") {
                self.frame = Some(Frame {
                    at: (2 * at[0], 2 * at[1]),
                    size: (1 + size[0], 1 + size[1]),
                    bitstream: Bitstream::read(image, &chunk)?,
                });
                return Ok(read + 8 + Bitstream::header_bytes(chunk.name));
            }
            self.has_alpha_chunk |= &chunk.name == b"ALPH";
            chunk.skip_rest(image, 0)?;
            read += chunk.whole_bytes();
        }
        Err(broken())
    }

    fn header(self, canvas: &Canvas) -> Result<Header, Refusal> {
        let Some(frame) = self.frame else {
            return Err(broken());
        };
        let bitstream = &frame.bitstream;
        let fits = frame.at.0 + frame.size.0 <= canvas.size.0
            && frame.at.1 + frame.size.1 <= canvas.size.1;
        if !fits || bitstream.size != frame.size {
            return Err(Refusal::undecodable(format!(
                "the WebP cannot be decoded: it has {}×{} pixels by its header, but its first picture has {}×{}",
                canvas.size.0, canvas.size.1, bitstream.size.0, bitstream.size.1
            )));
        }
        let has_alpha = self.has_alpha_chunk || bitstream.is_lossless_with_alpha;
        let layout = bitstream.layout(self.has_alpha_chunk, canvas.size);
        let mut header = Header::new(Format::Webp, canvas.size, layout);
        let breaks_promise = canvas.has_profile && !self.has_profile
            || canvas.has_xmp && !self.has_xmp
            || canvas.has_exif && !self.exif.is_used()
            || canvas.has_alpha && !has_alpha && !canvas.is_animated;
        if breaks_promise {
            header.warnings.push(Warning::BadHeader);
        }
        header.orientation = self.exif.orientation(&mut header.warnings);
        Ok(header)
    }
}
