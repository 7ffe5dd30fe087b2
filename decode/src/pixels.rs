//! Decodes the pixels of an image: upright, 8 bits, RGB, with alpha blended on white, and only the first of several frames.

use image::{DynamicImage, RgbImage, metadata::Orientation};

use crate::{Format, Header, Limits, Refusal, Warning, bmp, gif, jpeg, png, tiff, webp};

/// A decoded image.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Upright. A JPEG may be smaller than its full size.
    pub pixels: RgbImage,
    /// What is wrong with the file, in the order of the codes, each code once.
    pub warnings: Vec<Warning>,
}

/// Decodes an image whose header was read from `bytes`.
///
/// A JPEG is decoded at a smaller scale, but not below `scale_min` of its size. The pixels are written to `memory`: pass that
/// of an earlier image to avoid an allocation.
///
/// # Errors
/// [`Reason::TooManyPixels`](crate::Reason::TooManyPixels) or [`Reason::Undecodable`](crate::Reason::Undecodable).
pub fn decode(
    bytes: &[u8],
    header: &Header,
    scale_min: f64,
    limits: &Limits,
    memory: Vec<u8>,
) -> Result<Decoded, Refusal> {
    limits.check(header)?;
    limits.check_bytes(header.decode_bytes(scale_min))?;
    let mut warnings = header.warnings.clone();
    // Each decoder returns RGB on white. Its file says what memory it takes at once.
    let pixels = match header.format {
        Format::Jpeg => {
            let stored = (header.width, header.height);
            jpeg::decode(bytes, stored, scale_min, memory, &mut warnings)?
        }
        Format::Png => png::decode(bytes, header, memory, &mut warnings)?,
        Format::Webp => webp::decode(bytes, header, memory, &mut warnings)?,
        Format::Gif => gif::decode(bytes, header, memory, &mut warnings)?,
        Format::Bmp => bmp::decode(bytes, header, memory)?,
        Format::Tiff => tiff::decode(bytes, header, limits, memory, &mut warnings)?,
    };
    warnings.sort_unstable();
    warnings.dedup();
    Ok(Decoded {
        pixels: turn_upright(pixels, header.orientation),
        warnings,
    })
}

/// Takes 3 bytes a pixel more if the image is turned by 90 degrees.
fn turn_upright(pixels: RgbImage, orientation: Orientation) -> RgbImage {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let mut image = DynamicImage::ImageRgb8(pixels);
    image.apply_orientation(orientation);
    image.into_rgb8()
}
