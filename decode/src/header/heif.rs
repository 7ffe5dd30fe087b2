//! The header of HEIC and AVIF files.

use std::io::{Read, Seek};

use super::{Header, Layout, area, broken, cut_short};
use crate::{
    Format, Refusal,
    heif::{
        boxes::{self, Bytes},
        meta::Meta,
    },
};

/// Bytes that libheif takes for each pixel of 8 bits a channel and 4:2:0. All of these are measured (ADR 22): more bits take up
/// to 7/4, full color resolution 3/2.
const BYTES_PER_PIXEL: u64 = 8;
const ALPHA_BYTES_PER_PIXEL: u64 = 4;

/// Reads the header. The size is that of the upright image: the decoder crops and turns.
///
/// # Errors
/// The header is cut short or broken.
pub(super) fn read(image: impl Read + Seek, format: Format) -> Result<Header, Refusal> {
    let meta = boxes::read_meta(image).map_err(cut_short)?;
    let header = Meta::parse(&meta).and_then(|meta| header_of(&meta, format));
    header.ok_or_else(broken)
}

fn header_of(meta: &Meta, format: Format) -> Option<Header> {
    let size = upright_size(meta, meta.primary)?;
    let items = meta.decoded(meta.primary)?;
    let sizes = items.iter().filter_map(|item| meta.size(*item));
    let picture = sizes.max_by_key(|size| area(*size))?;
    let mut bytes_per_pixel = BYTES_PER_PIXEL;
    let samples = items.iter().filter_map(|item| Samples::of(meta, *item));
    if let Some(samples) = samples.reduce(Samples::largest) {
        if !samples.is_420 {
            bytes_per_pixel = bytes_per_pixel * 3 / 2;
        }
        if samples.bits > 8 {
            bytes_per_pixel = bytes_per_pixel * 7 / 4;
        }
    }
    if meta.alpha(meta.primary).is_some() {
        bytes_per_pixel += ALPHA_BYTES_PER_PIXEL;
    }
    // The decoder's own memory, and the image as RGB.
    let decoding_bytes = area(picture)
        .saturating_mul(bytes_per_pixel)
        .saturating_add(area(size).saturating_mul(3));
    let layout = Layout::Whole {
        decoding_bytes,
        pixel_bytes: 3,
    };
    let header = Header::new(format, size, layout);
    Some(Header { picture, ..header })
}

/// The size of an item after all properties that crop and turn it.
fn upright_size(meta: &Meta, item: u32) -> Option<(u32, u32)> {
    let (mut width, mut height) = meta.size(item)?;
    for property in meta.properties(item) {
        match &property.kind {
            b"irot" if property.content.0.first()? & 1 == 1 => {
                (width, height) = (height, width);
            }
            b"clap" => {
                let mut crop = property.content;
                let cropped = (rounded_quotient(&mut crop)?, rounded_quotient(&mut crop)?);
                if cropped.0 > width || cropped.1 > height {
                    return None;
                }
                (width, height) = cropped;
            }
            _ => {}
        }
    }
    Some((width, height))
}

/// A side of a cropped image: a quotient of two integers.
fn rounded_quotient(content: &mut Bytes) -> Option<u32> {
    let (dividend, divisor) = (content.u32()?, content.u32()?);
    let rounded = (u64::from(dividend) + u64::from(divisor / 2)).checked_div(divisor.into())?;
    u32::try_from(rounded).ok()
}

/// How an item stores its samples.
#[derive(Debug, Clone, Copy)]
struct Samples {
    bits: u8,
    /// Two of the three channels have a quarter of the samples, or there is one channel only.
    is_420: bool,
}

impl Samples {
    /// Nothing for items that are made from others.
    fn of(meta: &Meta, item: u32) -> Option<Self> {
        if let Some(hevc) = meta.property(item, *b"hvcC") {
            let (chroma, bits) = (hevc.0.get(16)? & 3, 8 + (hevc.0.get(17)? & 7));
            return Some(Self {
                bits,
                is_420: chroma < 2,
            });
        }
        let flags = meta.property(item, *b"av1C")?.0.get(2).copied()?;
        let is = |bit: u8| flags >> bit & 1 == 1;
        Some(Self {
            bits: if is(6) { 10 } else { 8 },
            is_420: is(4) || is(3) && is(2),
        })
    }

    fn largest(self, other: Self) -> Self {
        Self {
            bits: self.bits.max(other.bits),
            is_420: self.is_420 && other.is_420,
        }
    }
}
