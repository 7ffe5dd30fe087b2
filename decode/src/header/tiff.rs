//! The header of a TIFF: its first directory, as the crate `tiff` reads it.

use std::io::{BufRead, Seek, SeekFrom};

use image::metadata::Orientation;
use tiff::{decoder::Decoder, tags::Tag};

use super::{Header, Layout, area, broken, cut_short, read_array};
use crate::{Format, Refusal, Warning};

/// Bytes of a pixel of a color type that cannot be told from the header: RGBA of 16 bits.
const PIXEL_BYTES_UNKNOWN: u64 = 8;

/// Values of the tag Compression.
const JPEG_OLD: u16 = 6;
const JPEG: u16 = 7;

/// Bytes of a pixel of a JPEG strip, which may be the whole picture: coefficients of 3 components, and RGB.
const STRIP_PIXEL_BYTES: u64 = 3 * 2 + 3;

/// Most values of one tag: the places of 262,144 strips or tiles.
const VALUES_MAX: u32 = 1 << 18;

/// No tag from here on is read. Color profiles and notes may have millions of values.
const TAGS_END: u16 = 700;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    check_counts(image)?;
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

/// Checks how many values each tag of the first directory has. Moves back to the start.
///
/// The crate `tiff` takes 32 bytes for each value before it reads one: 256 MB for a file of 163 bytes.
fn check_counts(image: &mut (impl BufRead + Seek)) -> Result<(), Refusal> {
    let mark: [u8; 4] = read_array(image)?;
    let is_little_endian = mark.starts_with(b"II");
    let short = |bytes| {
        if is_little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }
    };
    let long = |bytes| {
        if is_little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        }
    };
    let directory = long(read_array(image)?);
    image
        .seek(SeekFrom::Start(directory.into()))
        .map_err(cut_short)?;
    for _ in 0..short(read_array(image)?) {
        let [tag0, tag1, _type0, _type1] = read_array(image)?;
        let values = long(read_array(image)?);
        let _first_value: [u8; 4] = read_array(image)?;
        if short([tag0, tag1]) < TAGS_END && values > VALUES_MAX {
            return Err(broken());
        }
    }
    image.rewind().map_err(cut_short)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::broken;
    use crate::{Header, Limits};

    /// Width and height, and a third tag with this many values.
    fn tiff(tag: u16, values: u32) -> Vec<u8> {
        let field = |tag: u16, values: u32, value: u32| {
            let kind = 4_u16.to_le_bytes();
            let (values, value) = (values.to_le_bytes(), value.to_le_bytes());
            [&tag.to_le_bytes()[..], &kind, &values, &value].concat()
        };
        let fields = [field(256, 1, 30), field(257, 1, 20), field(tag, values, 8)];
        [&b"II*\0\x08\0\0\0\x03\0"[..], &fields.concat(), &[0; 4]].concat()
    }

    #[test]
    fn a_directory_that_promises_millions_of_values_is_refused() {
        const STRIP_OFFSETS: u16 = 273;
        const COLOR_PROFILE: u16 = 34_675;
        let read = |file| Header::read(Cursor::new(file), &Limits::tests());
        let (refused, peak) = fuzzing::peak_bytes(|| read(tiff(STRIP_OFFSETS, 8_000_000)));
        assert_eq!(refused.expect_err("refused").detail, broken().detail);
        assert!(peak < 1 << 20, "{peak} bytes");
        let (_, peak) = fuzzing::peak_bytes(|| read(tiff(COLOR_PROFILE, 8_000_000)));
        assert!(peak < 1 << 20, "{peak} bytes");
    }
}
