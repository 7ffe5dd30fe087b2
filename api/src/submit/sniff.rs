//! Type and size of an image from its own bytes. The declared type does not count.

use std::{
    io::{BufRead, Seek},
    panic::UnwindSafe,
};

use decode::{Header, Reason, Refusal};
use jobs::ProblemCode;

use crate::{config::Limits, http::error::ApiError};

/// The limits that workers apply, too.
fn decode_limits(limits: &Limits) -> decode::Limits {
    decode::Limits {
        pixels_max: limits.image_pixels_max,
        side_px_max: limits.image_side_px_max,
        bytes_max: limits.decode_bytes_max,
        formats: limits.image_types.clone(),
    }
}

/// Checks the type of an image that begins with these bytes.
///
/// # Errors
/// `unsupported_media_type`: no image, or a type that is not accepted here.
pub(crate) fn accept(head: &[u8], limits: &Limits) -> Result<(), ApiError> {
    let accepted = decode_limits(limits).accept(head);
    accepted.map(drop).map_err(api_error)
}

/// Reads the header of an image.
///
/// # Errors
/// A worker could not take the image: unknown type, cut header, too many pixels.
pub(crate) fn sniff(
    mut image: impl BufRead + Seek + UnwindSafe,
    limits: &Limits,
) -> Result<Header, ApiError> {
    let head = image
        .fill_buf()
        .map_err(|error| ApiError::internal(&error))?;
    if head.is_empty() {
        return Err(ApiError::new(
            ProblemCode::InvalidRequest,
            "the image is empty: no bytes arrived",
        ));
    }
    let limits = decode_limits(limits);
    // Untrusted bytes may make a parser panic: that refuses this image and nothing else.
    let header = std::panic::catch_unwind(|| {
        let header = Header::read(image, &limits)?;
        limits.check(&header)?;
        Ok(header)
    });
    let panicked = |_| {
        Err(Refusal::new(
            Reason::Undecodable,
            "the image cannot be decoded: its header is broken",
        ))
    };
    header.unwrap_or_else(panicked).map_err(api_error)
}

fn api_error(refusal: Refusal) -> ApiError {
    let code = match refusal.reason {
        Reason::UnsupportedFormat => ProblemCode::UnsupportedMediaType,
        Reason::TooManyPixels => ProblemCode::ImageTooManyPixels,
        Reason::Undecodable => ProblemCode::ImageUndecodable,
    };
    ApiError::new(code, refusal.detail)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use clap::Parser;

    use decode::Format;

    use super::sniff;
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
        let header = sniff(Cursor::new(png(640, 480)), &limits()).expect("fits");
        assert_eq!(
            (header.format, header.width, header.height),
            (Format::Png, 640, 480)
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
