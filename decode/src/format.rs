//! The formats of images, told by the first bytes. A declared type or a file name does not count.

use serde::{Deserialize, Serialize};

/// A format of images that this installation may decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    Jpeg,
    Png,
    Webp,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    /// Bytes that tell the format.
    pub const MAGIC_BYTES: usize = 16;

    /// The format of an image that begins with these bytes.
    pub fn of(head: &[u8]) -> Option<Self> {
        let is_webp = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP");
        let is_any = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
        if is_any(&[b"\xff\xd8\xff"]) {
            Some(Self::Jpeg)
        } else if is_any(&[b"\x89PNG\r\n\x1a\n"]) {
            Some(Self::Png)
        } else if is_webp {
            Some(Self::Webp)
        } else if is_any(&[b"GIF87a", b"GIF89a"]) {
            Some(Self::Gif)
        } else if is_any(&[b"BM"]) {
            Some(Self::Bmp)
        } else if is_any(&[b"II*\0", b"MM\0*"]) {
            Some(Self::Tiff)
        } else {
            None
        }
    }

    /// `jpeg`, `png` and so on, as in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
        }
    }
}
