//! From bytes to an upright RGB image. Pure: no I/O, no clock, no device.
//!
//! The header is read first and refused before anything is allocated: decoders trust it (a 631-byte JPEG once asked for
//! 12.9 GB and took the process along). Strict: an image that is cut short or has a wrong checksum is refused whole,
//! although most decoders would hand back a half-gray picture, because its prediction would be about the gray.

mod jpeg;
mod png;

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};
use jobs::{ProblemCode, job::StageError};

/// What one image may cost, and which types are decoded at all.
#[derive(Debug, Clone)]
pub struct DecodeLimits {
    pub pixels_max: u64,
    pub side_px_max: u32,
    /// Memory of one decode.
    pub bytes_max: u64,
    pub formats: Vec<ImageFormat>,
}

/// How much of an upright image of this size must be left, as a factor in `0..=1`; only JPEGs can make use of it.
pub type Shrink<'a> = &'a dyn Fn(u32, u32) -> f64;

/// Decodes an image, upright, alpha blended on white, the first frame of several.
///
/// A JPEG may come out smaller, but never smaller than `shrink` says. Its pixels go into `memory`, that of an earlier image
/// best of all, so that one after the other takes no new memory.
///
/// # Errors
/// [`ProblemCode::UnsupportedMediaType`], [`ProblemCode::ImageTooManyPixels`] or [`ProblemCode::ImageUndecodable`]: for
/// good, all of them.
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
    let mut own = Limits::no_limits();
    own.max_image_width = Some(limits.side_px_max);
    own.max_image_height = Some(limits.side_px_max);
    own.max_alloc = Some(limits.bytes_max);
    reader.limits(own.clone());
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    // Said again by hand: `from_decoder` checks nothing, and not every decoder keeps the limits that it was given.
    let (width, height) = decoder.dimensions();
    limits.check(width, height, decoder.total_bytes())?;
    decoder.set_limits(own).map_err(refusal)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    image.apply_orientation(orientation);
    Ok(on_white(image))
}

impl DecodeLimits {
    /// Refuses by what the header says, before anything is allocated.
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

/// To RGB of 8 bits, transparent pixels blended with white, as a browser would show them on a page.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let mut rgb = Vec::with_capacity(image.len() / 4 * 3);
    for &[red, green, blue, alpha] in image.as_raw().as_chunks::<4>().0 {
        rgb.extend([red, green, blue].map(|channel| over_white(channel, alpha)));
    }
    RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel")
}

fn over_white(channel: u8, alpha: u8) -> u8 {
    let (channel, alpha) = (u32::from(channel), u32::from(alpha));
    ((channel * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn refusal(error: ImageError) -> StageError {
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
