//! The limits of one image.

use serde::{Deserialize, Serialize};

use crate::{Format, Header, Reason, Refusal};

/// The limits of one image, and the formats that are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most pixels of the image, and of each picture that is decoded to make it.
    pub pixels_max: u64,
    pub side_px_max: u32,
    /// Most bytes of memory for one decode.
    pub bytes_max: u64,
    pub formats: Vec<Format>,
}

impl Limits {
    /// The limits that the API and the worker have by default, with all formats.
    #[cfg(test)]
    pub(crate) fn tests() -> Self {
        Self {
            pixels_max: 40_000_000,
            side_px_max: 12_000,
            bytes_max: 512 << 20,
            formats: vec![
                Format::Jpeg,
                Format::Png,
                Format::Webp,
                Format::Gif,
                Format::Bmp,
                Format::Tiff,
            ],
        }
    }

    /// The format of an image that begins with these bytes, if it is accepted.
    ///
    /// # Errors
    /// [`Reason::UnsupportedFormat`]
    pub fn accept(&self, head: &[u8]) -> Result<Format, Refusal> {
        let format = Format::of(head).filter(|format| self.formats.contains(format));
        format.ok_or_else(|| {
            let names: Vec<_> = self.formats.iter().map(|format| format.name()).collect();
            let detail = format!(
                "the bytes are not an image of a type accepted here: {}",
                names.join(", ")
            );
            Refusal::new(Reason::UnsupportedFormat, detail)
        })
    }

    /// Checks what a decode of the image would take, at the smallest scale that it may be decoded at.
    ///
    /// # Errors
    /// [`Reason::TooManyPixels`]
    pub fn check(&self, header: &Header) -> Result<(), Refusal> {
        self.check_size("the image", (header.width, header.height))?;
        self.check_size("the first picture of the image", header.picture)?;
        self.check_bytes(header.decode_bytes(0.0))
    }

    fn check_size(&self, what: &str, (width, height): (u32, u32)) -> Result<(), Refusal> {
        let pixels = u64::from(width) * u64::from(height);
        if width.max(height) <= self.side_px_max && pixels <= self.pixels_max {
            return Ok(());
        }
        let detail = format!(
            "{what} is {width}×{height} pixels; accepted are up to {} a side and {} in all",
            self.side_px_max, self.pixels_max
        );
        Err(Refusal::new(Reason::TooManyPixels, detail))
    }

    /// Checks the memory of a decode.
    ///
    /// # Errors
    /// [`Reason::TooManyPixels`]
    pub fn check_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        let detail = format!(
            "decoding the image would take {} MB of memory; allowed are {}",
            bytes.div_ceil(1_000_000),
            self.bytes_max / 1_000_000
        );
        Err(Refusal::new(Reason::TooManyPixels, detail))
    }
}
