//! BMP by the crate `image`. Memory: the image as RGBA.

use std::io::Cursor;

use image::{ColorType, ImageDecoder, ImageError, RgbImage, codecs::bmp::BmpDecoder};

use crate::{
    Header, Refusal,
    on_white::{Alpha, rgba_to_rgb_in_place},
};

pub(crate) fn decode(
    file: &[u8],
    header: &Header,
    mut pixels: Vec<u8>,
) -> Result<RgbImage, Refusal> {
    let decoder = BmpDecoder::new(Cursor::new(file)).map_err(refusal)?;
    if decoder.dimensions() != (header.width, header.height) {
        return Err(Refusal::undecodable("the BMP has two sizes that differ"));
    }
    let channels = match decoder.color_type() {
        ColorType::Rgb8 => 3,
        ColorType::Rgba8 => 4,
        _ => return Err(Refusal::undecodable("the BMP is of an unusual kind")),
    };
    // Runs of a compressed BMP may skip pixels. These are black, not pixels of an earlier image.
    pixels.clear();
    pixels.resize(channels * header.width as usize * header.height as usize, 0);
    decoder.read_image(&mut pixels).map_err(refusal)?;
    if channels == 4 {
        // Many programs write 0 as alpha of every pixel, and mean an opaque picture.
        let is_unused = pixels.iter().skip(3).step_by(4).all(|alpha| *alpha == 0);
        let alpha = if is_unused {
            Alpha::Ignore
        } else {
            Alpha::Blend
        };
        rgba_to_rgb_in_place(&mut pixels, alpha);
    }
    Ok(RgbImage::from_raw(header.width, header.height, pixels).expect("three bytes a pixel"))
}

fn refusal(error: ImageError) -> Refusal {
    Refusal::undecodable("the BMP is damaged, cut short or of an unusual kind").caused_by(error)
}

#[cfg(test)]
mod tests {
    use crate::twins::{assert_twins, decode_as_stored, fixture, input};

    #[test]
    fn alpha_of_zero_everywhere_is_no_alpha() {
        assert_twins("bmp-32-zero-alpha.bmp", "ref-tiny.png", &[], 0.0);
    }

    /// As above, but the header announces an alpha channel.
    #[test]
    fn alpha_of_zero_everywhere_is_no_alpha_even_if_it_is_promised() {
        let opaque = decode_as_stored(&input("bmp-32-zero-alpha.bmp")).expect("accepted");
        let decoded = decode_as_stored(&with_alpha_mask(0)).expect("accepted");
        assert!(decoded.pixels == opaque.pixels);
        let decoded = decode_as_stored(&with_alpha_mask(1)).expect("accepted");
        let darkest = |pixels: &[u8]| pixels.iter().min().copied();
        assert_eq!(
            darkest(decoded.pixels.as_raw()),
            Some(254),
            "nearly transparent"
        );
    }

    #[test]
    fn a_cut_file_is_refused() {
        let file = fixture("bad/bitmap.bmp");
        decode_as_stored(&file).expect("accepted");
        for length in 0..file.len() {
            assert!(decode_as_stored(&file[..length]).is_err(), "{length} bytes");
        }
    }

    /// The input with the header of version 4, which has a mask for alpha.
    fn with_alpha_mask(alpha: u8) -> Vec<u8> {
        const HEADER_BYTES: u32 = 108;
        let file = input("bmp-32-zero-alpha.bmp");
        let mut with_mask = file[..10].to_vec();
        with_mask.extend((14 + HEADER_BYTES).to_le_bytes());
        with_mask.extend(HEADER_BYTES.to_le_bytes());
        with_mask.extend(&file[18..30]);
        with_mask.extend(3_u32.to_le_bytes());
        with_mask.extend(&file[34..54]);
        for mask in [0x00FF_0000, 0x0000_FF00, 0x0000_00FF, 0xFF00_0000_u32] {
            with_mask.extend(mask.to_le_bytes());
        }
        with_mask.resize(14 + HEADER_BYTES as usize, 0);
        let pixels = file[54..].as_chunks::<4>().0;
        with_mask.extend(pixels.iter().flat_map(|&[b, g, r, _]| [b, g, r, alpha]));
        with_mask
    }
}
