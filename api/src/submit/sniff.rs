//! Type and size of an image from its own bytes. The declared type does not count.

use std::{
    io::{BufRead, Seek},
    panic::UnwindSafe,
};

use jobs::ProblemCode;

use crate::{config::Limits, http::error::ApiError};

/// Type and size of an image, from its header alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sniffed {
    pub content_type: &'static str,
    pub width: u32,
    pub height: u32,
}

/// Bytes that tell the type.
pub(crate) const MAGIC_BYTES: usize = 16;

/// The type by the first bytes. Stricter than `imagesize::image_type`, which also accepts `GIF8…` and `BigTIFF`, and needs 12 bytes.
fn content_type(head: &[u8]) -> Option<&'static str> {
    let is_webp = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP");
    let is_any = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
    if is_any(&[b"\xff\xd8\xff"]) {
        Some("image/jpeg")
    } else if is_any(&[b"\x89PNG\r\n\x1a\n"]) {
        Some("image/png")
    } else if is_webp {
        Some("image/webp")
    } else if is_any(&[b"GIF87a", b"GIF89a"]) {
        Some("image/gif")
    } else if is_any(&[b"BM"]) {
        Some("image/bmp")
    } else if is_any(&[b"II*\0", b"MM\0*"]) {
        Some("image/tiff")
    } else {
        None
    }
}

/// The type of an image that begins with these bytes.
///
/// # Errors
/// `unsupported_media_type`: no image, or a type that is not accepted here.
pub(crate) fn accept(head: &[u8], limits: &Limits) -> Result<&'static str, ApiError> {
    let accepted = |kind: &&str| {
        limits
            .image_types
            .iter()
            .any(|known| kind.ends_with(known.as_str()))
    };
    content_type(head).filter(accepted).ok_or_else(|| {
        let types = limits.image_types.join(", ");
        ApiError::new(
            ProblemCode::UnsupportedMediaType,
            format!("the bytes are not an image of a type accepted here: {types}"),
        )
    })
}

/// Reads the header of an image.
///
/// # Errors
/// A worker could not take the image: unknown type, cut header, too many pixels.
pub(crate) fn sniff(
    mut image: impl BufRead + Seek + UnwindSafe,
    limits: &Limits,
) -> Result<Sniffed, ApiError> {
    let head = image
        .fill_buf()
        .map_err(|error| ApiError::internal(&error))?;
    if head.is_empty() {
        return Err(ApiError::new(
            ProblemCode::InvalidRequest,
            "the image is empty: no bytes arrived",
        ));
    }
    let content_type = accept(head, limits)?;
    // Untrusted bytes may make the parser panic: that refuses this image and nothing else.
    let size = std::panic::catch_unwind(|| imagesize::reader_size(image));
    let Ok(Ok(size)) = size else {
        return Err(undecodable("its header is cut short or broken"));
    };
    let (Ok(width), Ok(height)) = (u32::try_from(size.width), u32::try_from(size.height)) else {
        return Err(undecodable("its header is broken"));
    };
    if width == 0 || height == 0 {
        return Err(undecodable("its header says that it has no pixels"));
    }
    let side_max = limits.image_side_px_max;
    if width > side_max
        || height > side_max
        || u64::from(width) * u64::from(height) > limits.image_pixels_max
    {
        let detail = format!(
            "the image is {width}×{height} pixels; accepted are up to {side_max} a side and {} in all",
            limits.image_pixels_max
        );
        return Err(ApiError::new(ProblemCode::ImageTooManyPixels, detail));
    }
    Ok(Sniffed {
        content_type,
        width,
        height,
    })
}

fn undecodable(why: &str) -> ApiError {
    ApiError::new(
        ProblemCode::ImageUndecodable,
        format!("the image cannot be decoded: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use clap::Parser;

    use super::{Sniffed, sniff};
    use crate::{Config, config::Limits};

    fn limits() -> Limits {
        Config::parse_from([
            "darkroom-api",
            "--database-url",
            "postgres://nobody@localhost",
        ])
        .limits
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        let refusal = sniff(Cursor::new(bytes), &limits())
            .expect_err("refused")
            .to_string();
        refusal.split(':').next().expect("a code").to_owned()
    }

    #[test]
    fn a_png_header_is_enough() {
        let sniffed = Sniffed {
            content_type: "image/png",
            width: 640,
            height: 480,
        };
        assert_eq!(
            sniff(Cursor::new(png(640, 480)), &limits()).expect("fits"),
            sniffed
        );
    }

    #[test]
    fn what_no_worker_could_take_is_refused_by_its_header() {
        assert_eq!(refusal(b""), "invalid_request");
        assert_eq!(refusal(b"just a text"), "unsupported_media_type");
        assert_eq!(
            refusal(b"BM and a bitmap, off unless asked"),
            "unsupported_media_type"
        );
        assert_eq!(refusal(b"\xff\xd8\xff\xe0"), "image_undecodable");
        assert_eq!(refusal(&png(640, 480)[..18]), "image_undecodable");
        assert_eq!(refusal(&png(0, 480)), "image_undecodable");
        assert_eq!(refusal(&png(30_000, 30_000)), "image_too_many_pixels");
        assert_eq!(refusal(&png(12_001, 1)), "image_too_many_pixels");
        assert_eq!(refusal(&png(8_000, 8_000)), "image_too_many_pixels");
    }
}
