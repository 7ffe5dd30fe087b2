//! A clean PNG made from a file while the crate `png` reads it.
//!
//! The crate hides whether the compressed stream ended, whether its checksum is right, and whether more bytes follow. It also
//! drops the rows that it has when the checksum after them is wrong. So the stream is inflated here. `png` reads a PNG that has
//! the header, the palette and the color key of the file, and the rows in blocks that are not compressed. `png` then undoes
//! filters, bit depths and interlacing.

use std::{
    io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
};

use fdeflate::{DecompressionError, Decompressor};

use super::chunks::{Data, Parts};
use crate::Warning;

/// How far back deflate may refer.
const LOOKBACK_BYTES: usize = 32 << 10;
/// Most bytes of a block that is not compressed.
const BLOCK_BYTES_MAX: usize = 0xFFFF;
const WINDOW_BYTES: usize = 256 << 10;
/// The checksum of a stream, and that of a chunk.
const CHECKSUM_BYTES: usize = 4;
/// Most bytes behind the last row that are inflated to look for the end of the stream.
const STRAY_BYTES_MAX: usize = 64 << 10;

/// See the documentation of this module. Takes [`WINDOW_BYTES`] of memory.
pub(super) struct CleanPng<'file> {
    chunks: Data<'file>,
    /// What is left of the IDAT chunk at hand.
    input: &'file [u8],
    /// Bytes of all IDAT chunks that are not inflated.
    input_left: usize,
    inflater: Decompressor,
    /// Inflated bytes: those that deflate may refer back to, and the block at hand.
    window: Vec<u8>,
    filled: usize,
    /// Bytes of rows that are not inflated.
    rows_left: u64,
    /// What `png` reads next: `frame`, then `block` of the window.
    frame: Vec<u8>,
    frame_read: usize,
    block: Range<usize>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `png` reads the chunks before the rows.
    Head,
    Rows,
    End,
}

impl<'file> CleanPng<'file> {
    pub fn new(parts: &Parts<'file>) -> Self {
        let mut head = b"\x89PNG\r\n\x1a\n".to_vec();
        push_chunk(&mut head, *b"IHDR", parts.header_data);
        if let Some(palette) = parts.palette {
            push_chunk(&mut head, *b"PLTE", palette);
        }
        if let Some(transparency) = parts.transparency {
            push_chunk(&mut head, *b"tRNS", transparency);
        }
        Self {
            chunks: parts.data(),
            input: &[],
            input_left: parts.data_bytes,
            inflater: Decompressor::new(),
            window: vec![0; WINDOW_BYTES],
            filled: 0,
            rows_left: parts.header.row_bytes_in_all(),
            frame: head,
            frame_read: 0,
            block: 0..0,
            stage: Stage::Head,
        }
    }

    /// Looks at what follows the last row. Call it when `png` has all rows.
    pub fn finish(mut self, warnings: &mut Vec<Warning>) {
        let mut stray = 0;
        while stray <= STRAY_BYTES_MAX {
            let is_at_end = self.input_left == 0;
            match self.inflate(BLOCK_BYTES_MAX) {
                Ok(0) if self.inflater.is_done() => {
                    if self.input_left > 0 {
                        warnings.push(Warning::StrayBytes);
                    }
                    return;
                }
                Ok(0) if is_at_end => return warnings.push(Warning::MissingEnd),
                Ok(0) => {}
                Ok(inflated) => {
                    warnings.push(Warning::StrayBytes);
                    stray += inflated;
                }
                Err(DecompressionError::WrongChecksum) => {
                    return warnings.push(Warning::BadChecksum);
                }
                // What follows the last row is no deflate.
                Err(_) => {
                    return warnings.extend([Warning::StrayBytes, Warning::MissingEnd]);
                }
            }
        }
    }

    /// Inflates the next bytes, up to `bytes_max`, to the end of the window. May return 0 while there is input left.
    fn inflate(&mut self, bytes_max: usize) -> Result<usize, DecompressionError> {
        if self.filled + BLOCK_BYTES_MAX > self.window.len() {
            let kept = self.filled - LOOKBACK_BYTES..self.filled;
            self.window.copy_within(kept, 0);
            self.filled = LOOKBACK_BYTES;
        }
        while self.input.is_empty() && self.input_left > 0 {
            match self.chunks.next() {
                Some(data) => self.input = data,
                None => self.input_left = 0,
            }
        }
        // The checksum is given in a call of its own: fdeflate does not tell what it wrote before it finds a wrong one.
        // It is given byte by byte, to see what follows it.
        let input_max = self
            .input_left
            .checked_sub(CHECKSUM_BYTES)
            .filter(|bytes| *bytes > 0);
        let input = &self.input[..self.input.len().min(input_max.unwrap_or(1))];
        let room = &mut self.window[..self.filled + bytes_max];
        let (taken, inflated) = self.inflater.read(input, room, self.filled, false)?;
        if taken == 0 && inflated == 0 && !input.is_empty() && !self.inflater.is_done() {
            return Err(DecompressionError::ExtraInput);
        }
        self.input = &self.input[taken..];
        self.input_left -= taken;
        self.filled += inflated;
        Ok(inflated)
    }

    /// Makes the next part of the PNG. After an error there is none.
    fn advance(&mut self) -> io::Result<()> {
        self.frame.clear();
        self.frame_read = 0;
        if self.stage == Stage::End {
            return Ok(());
        }
        let block_bytes = self.inflate_block()?;
        // Checksums are 0: `png` ignores them.
        if block_bytes > 0 {
            if self.stage == Stage::Rows {
                self.frame.extend([0; CHECKSUM_BYTES]);
            }
            self.push_block_header(block_bytes);
            self.stage = Stage::Rows;
        } else {
            // Those of the stream and of its last chunk.
            self.frame.extend([0; 2 * CHECKSUM_BYTES]);
            push_chunk(&mut self.frame, *b"IEND", &[]);
            self.stage = Stage::End;
        }
        Ok(())
    }

    /// Inflates the next bytes of rows. Returns 0 after the last row.
    fn inflate_block(&mut self) -> io::Result<u16> {
        let bytes_max = BLOCK_BYTES_MAX.min(usize::try_from(self.rows_left).unwrap_or(usize::MAX));
        if bytes_max == 0 {
            return Ok(0);
        }
        loop {
            let is_at_end = self.input_left == 0;
            let inflated = self.inflate(bytes_max);
            let inflated = inflated
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{error:?}")))?;
            if inflated > 0 {
                self.rows_left -= inflated as u64;
                self.block = self.filled - inflated..self.filled;
                return Ok(inflated as u16);
            }
            if is_at_end || self.inflater.is_done() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A chunk with one block of deflate that is not compressed. The first one has the header of the stream, and the last one
    /// its checksum.
    fn push_block_header(&mut self, block_bytes: u16) {
        let is_first = self.stage == Stage::Head;
        let is_last = self.rows_left == 0;
        let stream_header: &[u8] = if is_first { &[0x78, 0x01] } else { &[] };
        let checksum_bytes = if is_last { CHECKSUM_BYTES } else { 0 };
        let chunk_bytes = stream_header.len() + 5 + usize::from(block_bytes) + checksum_bytes;
        self.frame.extend((chunk_bytes as u32).to_be_bytes());
        self.frame.extend(b"IDAT");
        self.frame.extend(stream_header);
        self.frame.push(u8::from(is_last));
        self.frame.extend(block_bytes.to_le_bytes());
        self.frame.extend((!block_bytes).to_le_bytes());
    }
}

fn push_chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    png.extend((data.len() as u32).to_be_bytes());
    png.extend(kind);
    png.extend(data);
    png.extend([0; CHECKSUM_BYTES]);
}

impl BufRead for CleanPng<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.frame_read == self.frame.len() && self.block.is_empty() {
            self.advance()?;
        }
        if self.frame_read < self.frame.len() {
            Ok(&self.frame[self.frame_read..])
        } else {
            Ok(&self.window[self.block.clone()])
        }
    }

    fn consume(&mut self, bytes: usize) {
        if self.frame_read < self.frame.len() {
            self.frame_read += bytes;
        } else {
            self.block.start += bytes;
        }
    }
}

impl Read for CleanPng<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(to.len());
        to[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// `png` asks for it, but does not seek.
impl Seek for CleanPng<'_> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }
}
