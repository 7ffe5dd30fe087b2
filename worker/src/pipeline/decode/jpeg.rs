//! JPEG by turbojpeg: scaled in the DCT domain, so that a large photo costs little more than its entropy decoding.

use image::{DynamicImage, RgbImage, metadata::Orientation};
use jobs::job::StageError;
use turbojpeg::{
    Colorspace, DecompressHeader, Decompressor, Error, Image, PixelFormat, ScalingFactor,
};

use super::{DecodeLimits, Shrink, undecodable};

/// Scans of a progressive JPEG: photos have about ten, and each may touch every pixel anew.
const SCANS_MAX: u32 = 100;

/// A decompressor and its settings, kept between images.
#[derive(Debug)]
pub struct JpegDecoder(Decompressor);

impl JpegDecoder {
    /// # Panics
    /// Memory ran out.
    pub fn new() -> Self {
        let mut decompressor = Decompressor::new().expect("memory for a decompressor");
        decompressor
            .set_scan_limit(SCANS_MAX)
            .expect("a setting of every decompressor");
        Self(decompressor)
    }

    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        limits: &DecodeLimits,
        shrink: Shrink<'_>,
    ) -> Result<RgbImage, StageError> {
        let header = self.0.read_header(bytes).map_err(damaged)?;
        let (width, height) = (header.width as u32, header.height as u32);
        limits.check(width, height, memory(&header, ScalingFactor::ONE_EIGHTH))?;
        let orientation = orientation(bytes);
        let upright = match orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (height, width),
            _ => (width, height),
        };
        let scale = if header.is_lossless {
            ScalingFactor::ONE
        } else {
            smallest_scale(shrink(upright.0, upright.1))
        };
        limits.check(width, height, memory(&header, scale))?;
        let pixels = self.pixels(bytes, &header, scale)?;
        if orientation == Orientation::NoTransforms {
            return Ok(pixels);
        }
        let mut image = DynamicImage::ImageRgb8(pixels);
        image.apply_orientation(orientation);
        Ok(image.into_rgb8())
    }

    fn pixels(
        &mut self,
        bytes: &[u8],
        header: &DecompressHeader,
        scale: ScalingFactor,
    ) -> Result<RgbImage, StageError> {
        let inks = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
        let format = if inks {
            PixelFormat::CMYK
        } else {
            PixelFormat::RGB
        };
        self.0.set_scaling_factor(scale).map_err(damaged)?;
        let scaled = header.scaled(scale);
        let pitch = scaled.width * format.size();
        let mut pixels = vec![0; pitch * scaled.height];
        let output = Image {
            pixels: pixels.as_mut_slice(),
            width: scaled.width,
            pitch,
            height: scaled.height,
            format,
        };
        match self.0.decompress(bytes, output) {
            // Every pixel was there, and then some bytes too many: phones write such files, and every viewer shows them.
            Err(Error::TurboJpegError(warning))
                if warning.contains("extraneous bytes before marker 0xd9") => {}
            outcome => outcome.map_err(damaged)?,
        }
        if inks {
            pixels = inks_to_rgb(&pixels);
        }
        let (width, height) = (scaled.width as u32, scaled.height as u32);
        Ok(RgbImage::from_raw(width, height, pixels).expect("three bytes a pixel"))
    }
}

impl Default for JpegDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory that decoding takes: pixels, and for a progressive JPEG all its coefficients at once.
fn memory(header: &DecompressHeader, scale: ScalingFactor) -> u64 {
    let area = |header: &DecompressHeader| header.width as u64 * header.height as u64;
    let coefficients = if header.is_progressive {
        area(header) * 2 * 3
    } else {
        0
    };
    coefficients + area(&header.scaled(scale)) * 4
}

/// The smallest of the scales with fast kernels that leaves at least `shrink` of each side.
fn smallest_scale(shrink: f64) -> ScalingFactor {
    let eighths = [1, 2, 4].into_iter();
    eighths
        .map(|eighths| ScalingFactor::new(eighths, 8))
        .find(|scale| scale.num() as f64 / scale.denom() as f64 >= shrink)
        .unwrap_or(ScalingFactor::ONE)
}

/// Adobe writes inks inverted, and so does everybody else by now: 255 is bare paper.
fn inks_to_rgb(inks: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(inks.len() / 4 * 3);
    for &[cyan, magenta, yellow, black] in inks.as_chunks::<4>().0 {
        rgb.extend(
            [cyan, magenta, yellow]
                .map(|ink| ((u32::from(ink) * u32::from(black) + 127) / 255) as u8),
        );
    }
    rgb
}

/// The EXIF orientation of the first APP1 segment that has one; broken EXIF turns nothing.
fn orientation(bytes: &[u8]) -> Orientation {
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xff, marker, tail @ ..] = rest {
        match marker {
            0xff => rest = &rest[1..],         // a fill byte
            0x01 | 0xd0..=0xd7 => rest = tail, // no payload
            0xd9 | 0xda => break,              // the picture begins
            _ => {
                let [high, low, ..] = *tail else { break };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(segment) = tail.get(2..length) else {
                    break;
                };
                if *marker == 0xe1
                    && let Some(exif) = segment.strip_prefix(b"Exif\0\0")
                {
                    return Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms);
                }
                rest = &tail[length..];
            }
        }
    }
    Orientation::NoTransforms
}

/// turbojpeg reports warnings (missing data, bad Huffman codes) as errors, once it has decoded what it could.
fn damaged(error: Error) -> StageError {
    undecodable("the JPEG is damaged or cut short").caused_by(error)
}
