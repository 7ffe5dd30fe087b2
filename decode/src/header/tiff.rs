//! The header of a TIFF: its first directory, as the crate `tiff` reads it.

use std::io::{BufRead, Seek};

use image::metadata::Orientation;
use tiff::{decoder::Decoder, tags::Tag};

use super::{Header, Layout, area, cut_short};
use crate::{Format, Refusal, Warning};

/// Bytes of a pixel of a color type that cannot be told from the header: RGBA of 16 bits.
const PIXEL_BYTES_UNKNOWN: u64 = 8;

/// Values of the tag Compression.
const JPEG_OLD: u16 = 6;
const JPEG: u16 = 7;

/// Bytes of a pixel of a JPEG strip, which may be the whole picture: coefficients of 3 components, and RGB.
const STRIP_PIXEL_BYTES: u64 = 3 * 2 + 3;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let mut decoder = Decoder::new(image).map_err(cut_short)?;
    let size = decoder.dimensions().map_err(cut_short)?;
    let color = decoder.colortype().ok();
    let stored_bytes = color.map_or(PIXEL_BYTES_UNKNOWN, |color| {
        (u64::from(color.num_samples()) * u64::from(color.bit_depth())).div_ceil(8)
    });
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression);
    let picture_bytes = if matches!(compression, Ok(Some(JPEG_OLD | JPEG))) {
        STRIP_PIXEL_BYTES
    } else {
        stored_bytes
    };
    let layout = Layout::Whole {
        // RGB beside the samples or the strip; and a few rows.
        decoding_bytes: area(size)
            .saturating_mul(3 + picture_bytes)
            .saturating_add(64 * u64::from(size.0) * stored_bytes),
        pixel_bytes: 3,
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
