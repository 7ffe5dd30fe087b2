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
    /// AV1 in an ISO base media file. Decoded by the system's libheif.
    Avif,
    /// HEVC in an ISO base media file. Decoded by the system's libheif.
    Heic,
    /// JPEG XL, as a codestream or in a container.
    Jxl,
}

/// Brands of still images and image sequences in an ISO base media file. Files of other codecs have none of these.
const AVIF_BRANDS: [&[u8; 4]; 2] = [b"avif", b"avis"];
const HEIC_BRANDS: [&[u8; 4]; 8] = [
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
];

impl Format {
    /// Bytes that tell the format. The codec of a HEIF file may be told by the last of its first twelve brands.
    pub const MAGIC_BYTES: usize = 64;

    pub const ALL: [Self; 9] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Gif,
        Self::Bmp,
        Self::Tiff,
        Self::Avif,
        Self::Heic,
        Self::Jxl,
    ];

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
        } else if is_any(&[b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"]) {
            Some(Self::Jxl)
        } else {
            Self::of_brands(head)
        }
    }

    /// The format that the brands of an ISO base media file tell. Most brands are general, such as `mif1`, and name no codec.
    fn of_brands(head: &[u8]) -> Option<Self> {
        let (length, _) = head.split_first_chunk::<4>()?;
        let is_iso = head.get(4..8) == Some(b"ftyp");
        let end = (u32::from_be_bytes(*length) as usize).clamp(16, Self::MAGIC_BYTES);
        let brands = head.get(8..end.min(head.len())).filter(|_| is_iso)?;
        let (brands, _) = brands.as_chunks::<4>();
        let of_brand = |(place, brand): (usize, &[u8; 4])| match place {
            1 => None, // the version of the first brand
            _ if AVIF_BRANDS.contains(&brand) => Some(Self::Avif),
            _ if HEIC_BRANDS.contains(&brand) => Some(Self::Heic),
            _ => None,
        };
        brands.iter().enumerate().find_map(of_brand)
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
            Self::Avif => "avif",
            Self::Heic => "heic",
            Self::Jxl => "jxl",
        }
    }

    /// The format of images that are declared with this content type.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        // Programs that do not look into a file declare all HEIF files alike.
        if content_type == "image/heif" {
            return Some(Self::Heic);
        }
        let mut formats = Self::ALL.into_iter();
        formats.find(|format| format.content_type() == content_type)
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::Avif => "image/avif",
            Self::Heic => "image/heic",
            Self::Jxl => "image/jxl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    fn of_brands(brands: &[&[u8; 4]]) -> Option<Format> {
        let mut head = (16 + 4 * (brands.len() as u32 - 1)).to_be_bytes().to_vec();
        head.extend(b"ftyp");
        head.extend(brands[0]);
        head.extend([0; 4]);
        head.extend(brands[1..].iter().copied().flatten());
        Format::of(&head)
    }

    #[test]
    fn brands_tell_the_codec_of_an_iso_base_media_file() {
        assert_eq!(of_brands(&[b"avif", b"mif1", b"miaf"]), Some(Format::Avif));
        assert_eq!(of_brands(&[b"avis", b"avif", b"msf1"]), Some(Format::Avif));
        assert_eq!(of_brands(&[b"heic", b"mif1"]), Some(Format::Heic));
        assert_eq!(of_brands(&[b"heix"]), Some(Format::Heic));
        assert_eq!(of_brands(&[b"mif1", b"miaf", b"heic"]), Some(Format::Heic));
        assert_eq!(of_brands(&[b"mif1", b"MiHE", b"avif"]), Some(Format::Avif));
    }

    #[test]
    fn videos_and_images_of_other_codecs_are_no_format() {
        assert_eq!(of_brands(&[b"qt  "]), None);
        assert_eq!(of_brands(&[b"isom", b"iso2", b"mp41"]), None);
        assert_eq!(of_brands(&[b"mif1", b"miaf", b"vvic"]), None);
        assert_eq!(
            Format::of(b"\0\0\0\x18ftypheic"),
            Some(Format::Heic),
            "a cut head"
        );
        assert_eq!(Format::of(b"\0\0\0\x18ftyp"), None);
        assert_eq!(Format::of(b"\0\0\0\x10freeheic\0\0\0\0"), None);
    }

    #[test]
    fn both_forms_of_jpeg_xl_are_known() {
        assert_eq!(Format::of(b"\xff\x0a\x00"), Some(Format::Jxl));
        assert_eq!(
            Format::of(b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl "),
            Some(Format::Jxl)
        );
    }

    #[test]
    fn every_format_is_found_by_its_content_type() {
        for format in Format::ALL {
            assert_eq!(Format::of_content_type(format.content_type()), Some(format));
        }
        assert_eq!(Format::of_content_type("image/heif"), Some(Format::Heic));
        assert_eq!(Format::of_content_type("text/html"), None);
    }
}
