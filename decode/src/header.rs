//! What the header of an image says: its format, its size, its orientation, and what a decode costs.

mod heif;
mod jxl;

use std::io::{BufRead, Seek};

use image::metadata::Orientation;

use crate::{Format, Limits, Refusal};

/// What the header of an image says. Nothing of it is checked against limits: see [`Limits::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// What the header says of the memory of a decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A JPEG. Its pixels are decoded at the scale that is asked for.
    Jpeg {
        /// The JPEG has several scans, so all coefficients are kept: 2 bytes for each sample.
        keeps_coefficients: bool,
        components: u8,
        is_lossless: bool,
    },
    /// All pixels are decoded, at this many bytes each.
    Whole { bytes_per_pixel: u8 },
}

impl Header {
    /// Reads the header of an image. Reads no pixels.
    ///
    /// # Errors
    /// - [`Reason::UnsupportedFormat`](crate::Reason::UnsupportedFormat): not a format of `limits`.
    /// - [`Reason::Undecodable`](crate::Reason::Undecodable): the header is cut short or broken, or there are no pixels.
    pub fn read(mut image: impl BufRead + Seek, limits: &Limits) -> Result<Self, Refusal> {
        let broken = || {
            Refusal::undecodable("the image cannot be decoded: its header is cut short or broken")
        };
        let no_pixels = || {
            Refusal::undecodable(
                "the image cannot be decoded: its header says that it has no pixels",
            )
        };
        let head = image
            .fill_buf()
            .map_err(|error| broken().caused_by(error))?;
        let format = limits.accept(head)?;
        let header = match format {
            Format::Avif | Format::Heic => Some(heif::read(&mut image, format)),
            Format::Jxl => Some(jxl::read(&mut image)),
            _ => None,
        };
        if let Some(header) = header {
            let header = header.map_err(|error| broken().caused_by(error))?;
            return if header.width == 0 || header.height == 0 {
                Err(no_pixels())
            } else {
                Ok(header)
            };
        }
        let size = imagesize::reader_size(image).map_err(|error| broken().caused_by(error))?;
        let (Ok(width), Ok(height)) = (u32::try_from(size.width), u32::try_from(size.height))
        else {
            return Err(broken());
        };
        if width == 0 || height == 0 {
            return Err(no_pixels());
        }
        Ok(Self {
            format,
            width,
            height,
            picture: (width, height),
            orientation: Orientation::NoTransforms,
            layout: if format == Format::Jpeg {
                Layout::Jpeg {
                    keeps_coefficients: true,
                    components: 3,
                    is_lossless: false,
                }
            } else {
                Layout::Whole { bytes_per_pixel: 4 }
            },
        })
    }

    /// Pixels of the upright image.
    pub fn upright_size(&self) -> (u32, u32) {
        match self.orientation {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (self.height, self.width),
            _ => (self.width, self.height),
        }
    }

    /// Most bytes of memory that a decode takes, beside the file. Only JPEGs are decoded at a smaller scale.
    pub fn decode_bytes(&self, scale_min: f64) -> u64 {
        let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        let stored = (self.width, self.height);
        match self.layout {
            Layout::Jpeg {
                keeps_coefficients,
                components,
                is_lossless,
            } => {
                let scale = if is_lossless {
                    1.0
                } else {
                    scale_min.clamp(0.125, 1.0)
                };
                let coefficients = if keeps_coefficients {
                    area(stored) * 2 * u64::from(components)
                } else {
                    0
                };
                coefficients + (area(stored) as f64 * scale * scale) as u64 * 4
            }
            // The picture, and the image as RGB.
            Layout::Whole { bytes_per_pixel } => {
                area(self.picture) * u64::from(bytes_per_pixel) + area(stored) * 3
            }
        }
    }
}
