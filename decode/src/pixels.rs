//! Decodes the pixels of an image: upright, 8 bits, RGB, with alpha blended on white, and only the first of several frames.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage,
    metadata::Orientation,
};

use crate::{
    Color, Format, Header, Limits, Reason, Refusal, Warning, color, heif, jpeg, jxl, on_white, png,
};

/// What pixels a model needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// The smallest scale that the image may be decoded at: 1.0 for its full size.
    pub scale_min: f64,
    pub color: Color,
}

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
/// A JPEG is decoded at a smaller scale, but not below `request.scale_min` of its size. The pixels are written to `memory`: pass that
/// of an earlier image to avoid an allocation.
///
/// # Errors
/// [`Reason::TooManyPixels`] or [`Reason::Undecodable`].
pub fn decode(
    bytes: &[u8],
    header: &Header,
    request: Request,
    limits: &Limits,
    memory: Vec<u8>,
) -> Result<Decoded, Refusal> {
    let Request { scale_min, color } = request;
    limits.check(header)?;
    limits.check_bytes(header.decode_bytes(scale_min))?;
    let mut warnings = Vec::new();
    let mut pixels = match header.format {
        Format::Jpeg => jpeg::decode(bytes, scale_min, memory, &mut warnings)?,
        Format::Png => {
            png::check(bytes).map_err(Refusal::undecodable)?;
            decode_whole(bytes, ImageFormat::Png, limits)?
        }
        Format::Webp => decode_whole(bytes, ImageFormat::WebP, limits)?,
        Format::Gif => decode_whole(bytes, ImageFormat::Gif, limits)?,
        Format::Bmp => decode_whole(bytes, ImageFormat::Bmp, limits)?,
        Format::Tiff => decode_whole(bytes, ImageFormat::Tiff, limits)?,
        Format::Avif | Format::Heic => heif::decode(bytes, header, limits, &mut warnings)?,
        Format::Jxl => jxl::decode(bytes, header, color, limits, &mut warnings)?,
    };
    if color == Color::Srgb {
        color::convert(&mut pixels, bytes, header, &mut warnings);
    }
    warnings.sort_unstable();
    warnings.dedup();
    Ok(Decoded {
        pixels: turn_upright(pixels, header.orientation),
        warnings,
    })
}

fn decode_whole(bytes: &[u8], format: ImageFormat, limits: &Limits) -> Result<RgbImage, Refusal> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder_limits = image::Limits::no_limits();
    decoder_limits.max_image_width = Some(limits.side_px_max);
    decoder_limits.max_image_height = Some(limits.side_px_max);
    decoder_limits.max_alloc = Some(limits.bytes_max);
    reader.limits(decoder_limits.clone());
    let mut decoder = reader.into_decoder().map_err(refusal)?;
    // Checked again: `from_decoder` checks nothing, and some decoders ignore their limits.
    limits.check_bytes(decoder.total_bytes())?;
    decoder.set_limits(decoder_limits).map_err(refusal)?;
    let image = DynamicImage::from_decoder(decoder).map_err(refusal)?;
    Ok(to_rgb_on_white(image))
}

fn turn_upright(pixels: RgbImage, orientation: Orientation) -> RgbImage {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let mut image = DynamicImage::ImageRgb8(pixels);
    image.apply_orientation(orientation);
    image.into_rgb8()
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
        rgb.extend([red, green, blue].map(|channel| on_white::blend(channel, alpha)));
    }
    RgbImage::from_raw(width, height, rgb).expect("three bytes a pixel")
}

fn refusal(error: ImageError) -> Refusal {
    match error {
        ImageError::Limits(_) => Refusal::new(
            Reason::TooManyPixels,
            "decoding the image would take too much memory",
        )
        .caused_by(error),
        _ => Refusal::undecodable("the image is damaged, cut short or of an unusual kind")
            .caused_by(error),
    }
}
