//! JPEG by turbojpeg. Scaling happens in the DCT domain, so a large photo costs little more than its entropy decoding.

use image::RgbImage;
use turbojpeg::{
    Colorspace, DecompressHeader, Decompressor, Error, Image, PixelFormat, ScalingFactor,
};

use crate::{Refusal, Warning};

/// Most scans of a progressive JPEG. Photos have about ten, and each scan may process every pixel.
const SCANS_MAX: u32 = 100;

/// Most extra bytes at the end of a picture that are accepted: some phones pad. Damaged pictures have more.
const PADDING_BYTES_MAX: u32 = 16;

pub(crate) fn decode(
    bytes: &[u8],
    scale_min: f64,
    memory: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    // A new decompressor for every image: it keeps the tables of the last image, and would use them for an image without
    // tables.
    let mut decompressor = Decompressor::new().map_err(damaged)?;
    decompressor.set_scan_limit(SCANS_MAX).map_err(damaged)?;
    let header = decompressor.read_header(bytes).map_err(damaged)?;
    let scale = if header.is_lossless {
        ScalingFactor::ONE
    } else {
        smallest_scale(scale_min)
    };
    decode_pixels(&mut decompressor, bytes, &header, scale, memory, warnings)
}

fn decode_pixels(
    decompressor: &mut Decompressor,
    bytes: &[u8],
    header: &DecompressHeader,
    scale: ScalingFactor,
    mut pixels: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let is_cmyk = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let format = if is_cmyk {
        PixelFormat::CMYK
    } else {
        PixelFormat::RGB
    };
    decompressor.set_scaling_factor(scale).map_err(damaged)?;
    let scaled = header.scaled(scale);
    let pitch = scaled.width * format.size();
    // Pixels of an earlier image are overwritten, or the image is refused.
    pixels.resize(pitch * scaled.height, 0);
    let output = Image {
        pixels: pixels.as_mut_slice(),
        width: scaled.width,
        pitch,
        height: scaled.height,
        format,
    };
    match decompressor.decompress(bytes, output) {
        Err(Error::TurboJpegError(warning)) if is_padding(&warning) => {
            warnings.push(Warning::StrayBytes);
        }
        outcome => outcome.map_err(damaged)?,
    }
    if is_cmyk {
        pixels = cmyk_to_rgb(&pixels);
    }
    let (width, height) = (scaled.width as u32, scaled.height as u32);
    Ok(RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel"))
}

/// Whether the only warning of turbojpeg is about a few bytes between the last pixel and the end marker.
fn is_padding(warning: &str) -> bool {
    let before = warning.split(" extraneous bytes before marker 0xd9").next();
    let count = before.filter(|before| before.len() < warning.len());
    let count = count.and_then(|before| before.rsplit(' ').next()?.parse::<u32>().ok());
    count.is_some_and(|count| count <= PADDING_BYTES_MAX)
}

/// The smallest scale with a fast kernel that is at least `scale_min`.
fn smallest_scale(scale_min: f64) -> ScalingFactor {
    let eighths = [1, 2, 4].into_iter();
    eighths
        .map(|eighths| ScalingFactor::new(eighths, 8))
        .find(|scale| scale.num() as f64 / scale.denom() as f64 >= scale_min)
        .unwrap_or(ScalingFactor::ONE)
}

/// The channels are inverted, as Adobe and today all other programs write them: 255 is no ink.
fn cmyk_to_rgb(cmyk: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(cmyk.len() / 4 * 3);
    for &[cyan, magenta, yellow, black] in cmyk.as_chunks::<4>().0 {
        rgb.extend(
            [cyan, magenta, yellow]
                .map(|ink| ((u32::from(ink) * u32::from(black) + 127) / 255) as u8),
        );
    }
    rgb
}

/// turbojpeg also reports warnings as errors: missing data, bad Huffman codes.
fn damaged(error: Error) -> Refusal {
    Refusal::undecodable("the JPEG is damaged or cut short").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::is_padding;

    #[test]
    fn only_a_little_padding_is_accepted() {
        let warning =
            |count| format!("Corrupt JPEG data: {count} extraneous bytes before marker 0xd9");
        assert!(is_padding(&warning(1)));
        assert!(!is_padding(&warning(17)));
        assert!(!is_padding(
            "Corrupt JPEG data: 1 extraneous bytes before marker 0xd3"
        ));
        assert!(!is_padding("Premature end of JPEG file"));
    }
}
