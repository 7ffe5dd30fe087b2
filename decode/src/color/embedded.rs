//! What a file says of its colors.

use std::{borrow::Cow, io::Cursor};

use image::{ImageDecoder, codecs::tiff::TiffDecoder};

use super::PROFILE_BYTES_MAX;
use crate::{
    Format, Header,
    header::Layout,
    heif::{
        boxes::{self, Bytes},
        meta::Meta,
    },
};

/// What a file says of its colors.
pub(super) enum Embedded<'a> {
    /// Nothing, or an image that is gray or CMYK. Images without a profile are sRGB.
    Nothing,
    /// There is a profile, but it is incomplete or broken.
    Broken,
    /// An ICC profile.
    Icc(Cow<'a, [u8]>),
    /// The code points of ITU-T H.273 for primaries and transfer function.
    CodePoints { primaries: u16, transfer: u16 },
}

impl<'a> Embedded<'a> {
    pub fn find(file: &'a [u8], header: &Header) -> Self {
        match header.format {
            Format::Jpeg => match header.layout {
                Layout::Jpeg { components: 3, .. } => Self::of_jpeg(file),
                _ => Self::Nothing,
            },
            Format::Png => Self::of_png(file).unwrap_or(Self::Nothing),
            Format::Webp => Self::of_webp(file).unwrap_or(Self::Nothing),
            Format::Tiff => Self::of_tiff(file).unwrap_or(Self::Nothing),
            Format::Avif | Format::Heic => Self::of_heif(file).unwrap_or(Self::Nothing),
            // Nothing in a GIF or a BMP is worth a look. The decoder of JPEG XL knows its colors.
            Format::Gif | Format::Bmp | Format::Jxl => Self::Nothing,
        }
    }

    /// A profile is cut into segments, which are numbered from 1 and may come in any order.
    fn of_jpeg(file: &'a [u8]) -> Self {
        let mut parts: Vec<(u8, &[u8])> = Vec::new();
        let mut count_told = 0;
        for (marker, content) in JpegSegments(file.get(2..).unwrap_or_default()) {
            const APP2: u8 = 0xe2;
            let part = content.strip_prefix(b"ICC_PROFILE\0");
            if marker == APP2
                && let Some([number, count, part @ ..]) = part
            {
                count_told = usize::from(*count);
                parts.push((*number, part));
            }
        }
        if parts.is_empty() {
            return Self::Nothing;
        }
        parts.sort_by_key(|(number, _)| *number);
        parts.dedup_by_key(|(number, _)| *number);
        match parts.as_slice() {
            [(1, part)] if count_told == 1 => Self::Icc(Cow::Borrowed(part)),
            parts if parts.len() == count_told && parts[0].0 == 1 => {
                let parts: Vec<_> = parts.iter().map(|(_, part)| *part).collect();
                Self::Icc(Cow::Owned(parts.concat()))
            }
            _ => Self::Broken,
        }
    }

    /// None if nothing is told before the pixels.
    fn of_png(file: &'a [u8]) -> Option<Self> {
        let mut chunks = Bytes(file.get(8..)?);
        let mut profile = None;
        loop {
            let length = chunks.u32()? as usize;
            let kind = chunks.array::<4>()?;
            let content = chunks.take(length)?;
            chunks.take(4)?;
            match (&kind, content) {
                // Bit 1 of the color type means that there are colors.
                (b"IHDR", [_, _, _, _, _, _, _, _, _, color_type, ..]) if color_type & 2 == 0 => {
                    return None;
                }
                (b"cICP", [primaries, transfer, ..]) => {
                    return Some(Self::CodePoints {
                        primaries: u16::from(*primaries),
                        transfer: u16::from(*transfer),
                    });
                }
                (b"iCCP", content) => profile = Some(inflate(content)),
                (b"IDAT" | b"IEND", _) => return profile,
                _ => {}
            }
        }
    }

    fn of_webp(file: &'a [u8]) -> Option<Self> {
        let mut chunks = Bytes(file.get(12..)?);
        loop {
            let kind = chunks.array::<4>()?;
            let length = u32::from_le_bytes(chunks.array()?) as usize;
            match &kind {
                b"ICCP" => {
                    let profile = chunks.take(length);
                    return Some(
                        profile.map_or(Self::Broken, |profile| Self::Icc(Cow::Borrowed(profile))),
                    );
                }
                // The profile comes before the pixels.
                b"VP8 " | b"VP8L" | b"ANMF" => return None,
                _ => chunks.take(length.next_multiple_of(2))?,
            };
        }
    }

    fn of_tiff(file: &'a [u8]) -> Option<Self> {
        let mut decoder = TiffDecoder::new(Cursor::new(file)).ok()?;
        Some(Self::Icc(Cow::Owned(decoder.icc_profile().ok()??)))
    }

    /// The colors of a grid may be told by its tiles. A profile counts more than code points.
    fn of_heif(file: &'a [u8]) -> Option<Self> {
        let meta = boxes::read_meta(Cursor::new(file)).ok()?;
        let meta = Meta::parse(&meta)?;
        let tile = meta.sources(meta.primary).first().copied();
        let mut found = None;
        for item in [Some(meta.primary), tile].into_iter().flatten() {
            for property in meta.properties(item) {
                let mut content = property.content;
                if &property.kind != b"colr" {
                    continue;
                }
                match &content.array::<4>()? {
                    b"prof" | b"rICC" => {
                        return Some(Self::Icc(Cow::Owned(content.0.to_vec())));
                    }
                    b"nclx" if found.is_none() => {
                        found = Some(Self::CodePoints {
                            primaries: content.u16()?,
                            transfer: content.u16()?,
                        });
                    }
                    _ => {}
                }
            }
            if found.is_some() {
                break;
            }
        }
        found
    }
}

/// The profile in a chunk `iCCP`: a name, the method 0, and the profile, deflated.
fn inflate<'a>(content: &[u8]) -> Embedded<'a> {
    let end_of_name = content.iter().position(|byte| *byte == 0);
    let deflated = end_of_name.and_then(|end| content.get(end + 2..));
    let profile =
        deflated.map(|deflated| fdeflate::decompress_to_vec_bounded(deflated, PROFILE_BYTES_MAX));
    match profile {
        Some(Ok(profile)) => Embedded::Icc(Cow::Owned(profile)),
        _ => Embedded::Broken,
    }
}

/// The segments of a JPEG before its pixels: marker and content. Bytes between segments are passed over.
struct JpegSegments<'a>(&'a [u8]);

impl<'a> Iterator for JpegSegments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const END_OF_IMAGE: u8 = 0xd9;
        const START_OF_SCAN: u8 = 0xda;
        loop {
            let start = self.0.iter().position(|byte| *byte == 0xff)?;
            let mut rest = Bytes(&self.0[start + 1..]);
            match rest.u8()? {
                END_OF_IMAGE | START_OF_SCAN => return None,
                // A fill byte: the next byte may be a marker.
                0xff => self.0 = &self.0[start + 1..],
                // Markers without content, and bytes that are no marker.
                0x00 | 0x01 | 0xd0..=0xd8 => self.0 = rest.0,
                marker => {
                    let length = rest.u16()?.checked_sub(2)?;
                    let content = rest.take(length.into())?;
                    self.0 = rest.0;
                    return Some((marker, content));
                }
            }
        }
    }
}
