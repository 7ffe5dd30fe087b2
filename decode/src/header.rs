//! What the header of an image says: its format, its size, its orientation, and what a decode costs.
//!
//! The parsers read like the decoders do: what a decoder puts up with is accepted here, and what no decoder of ours can
//! take is refused here. They walk a file by its segments or chunks, so a large file costs a few reads.

mod bmp;
mod exif;
mod gif;
mod heif;
mod jpeg;
mod jxl;
mod png;
#[cfg(test)]
mod tests;
mod tiff;
mod webp;

use std::{
    error::Error,
    io::{self, BufRead, Read, Seek},
};

use image::metadata::Orientation;

use crate::{Format, Limits, Refusal, Warning};

/// What the header of an image says. Nothing of it is checked against limits: see [`Limits::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub format: Format,
    /// Pixels of the image as it is stored, before it is turned upright.
    pub width: u32,
    pub height: u32,
    /// Pixels of the largest picture that has to be decoded: larger than the image if the first frame of a GIF is.
    pub picture: (u32, u32),
    /// How the stored pixels are turned upright.
    pub orientation: Orientation,
    pub layout: Layout,
    /// What is wrong with the file before its pixels. A code may stand here twice.
    pub warnings: Vec<Warning>,
}

/// What the header says of the memory of a decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A JPEG. Its pixels are decoded at the scale that is asked for.
    Jpeg {
        /// 1 (gray), 3 (color) or 4 (CMYK).
        components: u8,
        is_lossless: bool,
        is_progressive: bool,
        /// The JPEG has several scans: all coefficients are kept until the last scan is read.
        keeps_coefficients: bool,
        /// Samples of all components, in whole blocks. Subsampled components have fewer samples than the image has pixels.
        samples: u64,
    },
    /// All pixels are decoded: the requested scale does not count.
    Whole {
        /// Most bytes that decoding takes at once. Turning upright comes afterwards.
        decoding_bytes: u64,
        /// Bytes that the decoded memory has for each pixel: 4 if the decoder writes RGBA, which becomes RGB in place.
        pixel_bytes: u64,
    },
}

impl Header {
    /// Reads the header of an image from its first byte. Reads no pixels.
    ///
    /// # Errors
    /// - [`Reason::UnsupportedFormat`](crate::Reason::UnsupportedFormat): not a format of `limits`.
    /// - [`Reason::Undecodable`](crate::Reason::Undecodable): the header is cut short or broken, there are no pixels, or the
    ///   image is of a kind that no decoder here can take.
    pub fn read(mut image: impl BufRead + Seek, limits: &Limits) -> Result<Self, Refusal> {
        let format = limits.accept(&read_head(&mut image).map_err(cut_short)?)?;
        let header = match format {
            Format::Avif | Format::Heic => heif::read(&mut image, format),
            Format::Jxl => jxl::read(&mut image),
            Format::Jpeg => jpeg::read(&mut image),
            Format::Png => png::read(&mut image),
            Format::Webp => webp::read(&mut image),
            Format::Gif => gif::read(&mut image),
            Format::Bmp => bmp::read(&mut image),
            Format::Tiff => tiff::read(&mut image),
        }?;
        if header.width == 0 || header.height == 0 {
            return Err(Refusal::undecodable(
                "the image cannot be decoded: its header says that it has no pixels",
            ));
        }
        Ok(header)
    }

    /// The header of an upright image that is decoded as one picture.
    fn new(format: Format, (width, height): (u32, u32), layout: Layout) -> Self {
        Self {
            format,
            width,
            height,
            picture: (width, height),
            orientation: Orientation::NoTransforms,
            layout,
            warnings: Vec::new(),
        }
    }

    /// Pixels of the upright image.
    pub fn upright_size(&self) -> (u32, u32) {
        if self.swaps_sides() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }

    /// Whether turning the image upright swaps its width and its height.
    pub fn swaps_sides(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    }

    /// Most bytes of memory that a decode takes at once: beside the file, a copy of its compressed pixels, and less than a
    /// megabyte of tables. Only JPEGs are decoded at a smaller scale, in eighths.
    pub fn decode_bytes(&self, scale_min: f64) -> u64 {
        let (pixels, pixel_bytes, decoding_bytes) = match self.layout {
            Layout::Jpeg {
                components,
                is_lossless,
                keeps_coefficients,
                samples,
                ..
            } => {
                let eighths = if is_lossless { 8 } else { eighths(scale_min) };
                let scaled = |side: u32| (u64::from(side) * u64::from(eighths)).div_ceil(8);
                let pixels = scaled(self.width) * scaled(self.height);
                // CMYK, or else RGB.
                let pixel_bytes = if components == 4 { 4 } else { 3 };
                let coefficients = if keeps_coefficients { 2 * samples } else { 0 };
                // libjpeg works on the rows of a group of blocks (up to 32) with those above and below it.
                let rows = 64 * u64::from(self.width) * u64::from(components);
                // Where bytes are left over, one sample of each block is decoded again.
                let samples_again = samples / 64;
                let decoding_bytes = pixels * pixel_bytes + coefficients + rows + samples_again;
                (pixels, pixel_bytes, decoding_bytes)
            }
            Layout::Whole {
                decoding_bytes,
                pixel_bytes,
            } => (area((self.width, self.height)), pixel_bytes, decoding_bytes),
        };
        // A quarter turn copies the RGB pixels. All else happens in place.
        let copy_bytes = if self.swaps_sides() { 3 } else { 0 };
        decoding_bytes.max(pixels.saturating_mul(pixel_bytes + copy_bytes))
    }
}

/// The scale, in eighths, that a JPEG is decoded at: the smallest with a fast kernel that is at least `scale_min`.
pub(crate) fn eighths(scale_min: f64) -> u32 {
    let eighths = [1, 2, 4].into_iter();
    eighths
        .map(|eighths| (eighths, f64::from(eighths) / 8.0))
        .find(|(_, scale)| *scale >= scale_min)
        .map_or(8, |(eighths, _)| eighths)
}

/// Number of pixels. Two `u32` cannot overflow it.
fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// The bytes that tell the format, or all bytes of a shorter image. Moves back to the start.
fn read_head(image: &mut (impl BufRead + Seek)) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(Format::MAGIC_BYTES);
    image
        .by_ref()
        .take(Format::MAGIC_BYTES as u64)
        .read_to_end(&mut head)?;
    image.seek_relative(-(head.len() as i64))?;
    Ok(head)
}

/// The next bytes of an image.
fn read_array<const N: usize>(image: &mut impl Read) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    image.read_exact(&mut bytes).map_err(cut_short)?;
    Ok(bytes)
}

/// Moves on. The end of the image may lie before: the next read fails then.
fn skip(image: &mut impl Seek, bytes: u64) -> Result<(), Refusal> {
    image.seek_relative(bytes as i64).map_err(cut_short)
}

fn cut_short(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Refusal {
    broken().caused_by(cause)
}

fn broken() -> Refusal {
    Refusal::undecodable("the image cannot be decoded: its header is cut short or broken")
}
