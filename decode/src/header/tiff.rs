//! The header of a TIFF: its first directory, as the crate `tiff` reads it.

use std::io::{BufRead, Seek};

use image::metadata::Orientation;
use tiff::{ColorType, decoder::Decoder, tags::Tag};

use super::{Header, Layout, area, cut_short};
use crate::{Format, Refusal, Warning};

/// Bytes of a pixel of a color type that cannot be told from the header: RGBA of 16 bits.
const PIXEL_BYTES_UNKNOWN: u64 = 8;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let mut decoder = Decoder::new(image).map_err(cut_short)?;
    let size = decoder.dimensions().map_err(cut_short)?;
    let color = decoder.colortype().ok();
    let stored_bytes = color.map_or(PIXEL_BYTES_UNKNOWN, |color| {
        (u64::from(color.num_samples()) * u64::from(color.bit_depth())).div_ceil(8)
    });
    let has_alpha = !matches!(
        color,
        Some(ColorType::Gray(_) | ColorType::RGB(_) | ColorType::CMYK(_) | ColorType::YCbCr(_))
    );
    // JPEG in a TIFF: the strip, which may be all pixels, and its coefficients.
    let is_jpeg = matches!(
        decoder.find_tag_unsigned::<u16>(Tag::Compression),
        Ok(Some(6 | 7))
    );
    let strip_bytes = if is_jpeg { 3 * stored_bytes } else { 0 };
    let layout = Layout::Whole {
        // Palettes, bits and CMYK are converted to RGB.
        pixel_bytes: u32::try_from(stored_bytes.max(3)).unwrap_or(u32::MAX),
        has_alpha,
        // Beside the pixels as they are delivered, those as they are stored.
        working_bytes: area(size).saturating_mul(stored_bytes + strip_bytes),
    };
    let mut header = Header::new(Format::Tiff, size, layout);
    match decoder.find_tag_unsigned::<u64>(Tag::Orientation) {
        Ok(value) => {
            let value = value.and_then(|value| u8::try_from(value).ok());
            let orientation = value.and_then(Orientation::from_exif);
            header.orientation = orientation.unwrap_or(Orientation::NoTransforms);
        }
        Err(_) => header.warnings.push(Warning::BadMetadata),
    }
    Ok(header)
}
