//! The header of a BMP, as the crate `image` reads it.

use std::io::{BufRead, Seek};

use image::{ImageDecoder, codecs::bmp::BmpDecoder};

use super::{Header, Layout, area, cut_short};
use crate::{Format, Refusal};

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let decoder = BmpDecoder::new(image).map_err(cut_short)?;
    let (width, height) = decoder.dimensions();
    let layout = Layout::Whole {
        // RGBA, and two rows.
        decoding_bytes: area((width, height)) * 4 + u64::from(width) * 8,
        pixel_bytes: 4,
    };
    Ok(Header::new(Format::Bmp, (width, height), layout))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::Limits;

    fn read(height: i32) -> Result<Header, Refusal> {
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x1e\0\0\0".to_vec();
        bytes.extend(height.to_le_bytes());
        bytes.extend(*b"\x01\0\x18\0");
        bytes.extend([0; 24]);
        Header::read(Cursor::new(bytes), &Limits::tests())
    }

    #[test]
    fn rows_from_top_to_bottom_have_a_negative_height() {
        for height in [20, -20] {
            let header = read(height).expect("a header");
            assert_eq!((header.width, header.height), (30, 20));
        }
    }

    #[test]
    fn a_bmp_without_pixels_is_refused() {
        read(0).expect_err("refused");
    }
}
