//! The header of the pixels of a WebP: of a chunk VP8 (lossy) or VP8L (lossless).

use std::io::BufRead;

use super::Chunk;
use crate::{
    Refusal,
    header::{Layout, area, broken, read_array},
};

/// What the header of a chunk VP8 or VP8L says.
pub(super) struct Bitstream {
    pub size: (u32, u32),
    is_lossless: bool,
    pub is_lossless_with_alpha: bool,
}

impl Bitstream {
    /// Bytes that [`Bitstream::read`] reads.
    pub const fn header_bytes(name: [u8; 4]) -> u64 {
        if matches!(&name, b"VP8L") { 5 } else { 10 }
    }

    pub fn read(image: &mut impl BufRead, chunk: &Chunk) -> Result<Self, Refusal> {
        match &chunk.name {
            b"VP8 " => {
                let [tag, _, _, s0, s1, s2, w0, w1, h0, h1] = read_array(image)?;
                let is_key_frame = tag & 1 == 0;
                if !is_key_frame || [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
                    return Err(broken());
                }
                // The two upper bits of each side are a scale for players of videos.
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
                Ok(Self {
                    size: (side(w0, w1), side(h0, h1)),
                    is_lossless: false,
                    is_lossless_with_alpha: false,
                })
            }
            b"VP8L" => {
                let [signature, b0, b1, b2, b3] = read_array(image)?;
                let bits = u32::from_le_bytes([b0, b1, b2, b3]);
                let version = bits >> 29;
                if signature != 0x2f || version != 0 {
                    return Err(broken());
                }
                Ok(Self {
                    size: (1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff)),
                    is_lossless: true,
                    is_lossless_with_alpha: bits >> 28 & 1 == 1,
                })
            }
            _ => Err(broken()),
        }
    }

    /// What decoding takes. The frame is decoded as RGB or RGBA, and then placed on the canvas if it is smaller.
    pub fn layout(&self, has_alpha_chunk: bool, canvas: (u32, u32)) -> Layout {
        // Tables of the lossless format have an entry for each square of 4×4 pixels or more.
        const TABLES: u64 = 1;
        let pixel_bytes = if self.is_lossless || has_alpha_chunk {
            4
        } else {
            3
        };
        let padded = (
            self.size.0.next_multiple_of(16),
            self.size.1.next_multiple_of(16),
        );
        let working_bytes = if self.is_lossless {
            area(self.size) * TABLES
        } else {
            // Alpha is the green of a lossless picture.
            let alpha_bytes = if has_alpha_chunk { 4 + TABLES + 1 } else { 0 };
            // Luma, and chroma at half the width and half the height.
            area(self.size) * alpha_bytes + area(padded) * 3 / 2
        };
        let frame_bytes = area(self.size) * pixel_bytes;
        let covers_canvas = self.size == canvas;
        let placing_bytes = if covers_canvas {
            0
        } else {
            frame_bytes + area(canvas) * 3
        };
        Layout::Whole {
            decoding_bytes: placing_bytes.max(frame_bytes + working_bytes),
            pixel_bytes: if covers_canvas { pixel_bytes } else { 3 },
        }
    }
}
