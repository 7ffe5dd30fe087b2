//! Decodes bytes into an upright RGB image. Pure: no I/O, no clock, no device.
//!
//! The header is checked before anything is allocated, because decoders trust it: a JPEG of 631 bytes once allocated 12.9
//! GB and ended the process (docs/adr/0005-decoding.md). An image that is cut short or has a wrong checksum is refused.
//! Most decoders would return a half-gray picture, and the model would predict the gray.

mod jpeg;
mod png;

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};
use jobs::{ProblemCode, job::StageError};

/// The limits of one image, and the types that are decoded.
#[derive(Debug, Clone)]
pub struct DecodeLimits {
    pub pixels_max: u64,
    pub side_px_max: u32,
    /// Most bytes of memory for one decode.
    pub bytes_max: u64,
    pub formats: Vec<ImageFormat>,
}

/// From the width and height of an upright image to the smallest scale that it may be decoded at. Only JPEGs are scaled.
pub type Shrink<'a> = &'a dyn Fn(u32, u32) -> f64;

/// Decodes an image: upright, with alpha blended on white, and only the first of several frames.
///
/// A JPEG may be decoded at a smaller scale, but not smaller than `shrink` returns. Its pixels are written to `memory`:
/// pass that of an earlier image to avoid an allocation.
///
/// # Errors
/// [`ProblemCode::UnsupportedMediaType`], [`ProblemCode::ImageTooManyPixels`] or [`ProblemCode::ImageUndecodable`]. No later
/// try can succeed.
pub fn decode(
    bytes: &[u8],
    limits: &DecodeLimits,
    shrink: Shrink<'_>,
    memory: Vec<u8>,
) -> Result<RgbImage, StageError> {
    let format = image::guess_format(bytes).ok();
    let Some(format) = format.filter(|format| limits.formats.contains(format)) else {
        return Err(StageError::new(
            ProblemCode::UnsupportedMediaType,
            "the bytes are not an image of a supported type",
        ));
    };
    if format == ImageFormat::Jpeg {
        return jpeg::decode(bytes, limits, shrink, memory);
    }
    if format == ImageFormat::Png {
        png::check(bytes).map_err(undecodable)?;
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = Limits::no_limits();
    decoder_limits.max_image_width = Some(limits.side_px_max);
    decoder_limits.max_image_height = Some(limits.side_px_max);
    decoder_limits.max_alloc = Some(limits.bytes_max);
    reader.limits(decoder_limits.clone());
    let mut decoder = reader.into_decoder().map_err(stage_error)?;
    // Checked again: `from_decoder` checks nothing, and some decoders ignore their limits.
    let (width, height) = decoder.dimensions();
    limits.check(width, height, decoder.total_bytes())?;
    decoder.set_limits(decoder_limits).map_err(stage_error)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(stage_error)?;
    image.apply_orientation(orientation);
    Ok(to_rgb_on_white(image))
}

impl DecodeLimits {
    /// Checks the values of the header, before anything is allocated.
    fn check(&self, width: u32, height: u32, decode_bytes: u64) -> Result<(), StageError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(undecodable("the image has no pixels"));
        }
        if width.max(height) > self.side_px_max
            || pixels > self.pixels_max
            || decode_bytes > self.bytes_max
        {
            return Err(StageError::new(
                ProblemCode::ImageTooManyPixels,
                format!(
                    "{width}×{height} pixels; allowed are {} a side, {} in all",
                    self.side_px_max, self.pixels_max
                ),
            ));
        }
        Ok(())
    }
}

/// Converts to 8-bit RGB. Transparent pixels are blended with white, as on a web page.
fn to_rgb_on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let mut rgb = Vec::with_capacity(image.len() / 4 * 3);
    for &[red, green, blue, alpha] in image.as_raw().as_chunks::<4>().0 {
        rgb.extend([red, green, blue].map(|channel| blend_with_white(channel, alpha)));
    }
    RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel")
}

fn blend_with_white(channel: u8, alpha: u8) -> u8 {
    let (channel, alpha) = (u32::from(channel), u32::from(alpha));
    ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn stage_error(error: ImageError) -> StageError {
    match error {
        ImageError::Limits(_) => StageError::new(
            ProblemCode::ImageTooManyPixels,
            "decoding the image would take too much memory",
        )
        .caused_by(error),
        _ => undecodable("the image is damaged, cut short or of an unusual kind").caused_by(error),
    }
}

fn undecodable(detail: impl Into<String>) -> StageError {
    StageError::new(ProblemCode::ImageUndecodable, detail)
}

#[cfg(test)]
mod tests;
