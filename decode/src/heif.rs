//! HEIC and AVIF by the system's libheif.
//!
//! libheif crops and turns the image as the file says. EXIF data of these formats does not count: the standard says that its
//! orientation describes the image before it was encoded.

pub(crate) mod boxes;
mod coded_size;
mod library;
pub(crate) mod meta;
mod one_cpu;

use std::{io::Cursor, thread};

use image::RgbImage;

use self::{
    coded_size::Codec,
    library::{Libheif, LibraryError},
    meta::Meta,
    one_cpu::OneCpu,
};
use crate::{Format, Header, Limits, Reason, Refusal, Warning, on_white};

/// A format that this machine has no decoder for.
#[derive(Debug, thiserror::Error)]
pub enum MissingLibrary {
    #[error("format {} needs libheif: apt-get install libheif1 ({cause})", format.name())]
    Libheif { format: Format, cause: &'static str },
    #[error("format {} needs a decoder that libheif has not: apt-get install {package}", format.name())]
    Codec {
        format: Format,
        package: &'static str,
    },
}

/// Loads the libraries that decode these formats. Call this at the start of a process that decodes, before it enters a
/// sandbox: loading reads files.
///
/// # Errors
/// A library or a codec is not installed.
pub fn preload(formats: &[Format]) -> Result<(), MissingLibrary> {
    for &format in formats {
        let Some(codec) = codec_of(format) else {
            continue;
        };
        let libheif = Libheif::get().map_err(|cause| MissingLibrary::Libheif { format, cause })?;
        if !libheif.has_decoder(codec) {
            let package = match codec {
                Codec::Hevc => "libheif-plugin-libde265",
                Codec::Av1 => "libheif-plugin-dav1d",
            };
            return Err(MissingLibrary::Codec { format, package });
        }
    }
    Ok(())
}

fn codec_of(format: Format) -> Option<Codec> {
    match format {
        Format::Heic => Some(Codec::Hevc),
        Format::Avif => Some(Codec::Av1),
        _ => None,
    }
}

/// Decodes the image that a viewer shows. Of an animation that is the first frame.
///
/// # Errors
/// [`Reason::TooManyPixels`] or [`Reason::Undecodable`].
pub(crate) fn decode(
    bytes: &[u8],
    header: &Header,
    limits: &Limits,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    check_coded_size(bytes, header)?;
    let libheif = Libheif::get().map_err(|cause| missing(&cause))?;
    // libde265 waits for its thread for ever if the thread could not be started.
    if header.format == Format::Heic && !can_start_threads() {
        return Err(missing(&"threads are forbidden, and libde265 needs one"));
    }
    // dav1d starts a thread for each CPU that it may use.
    let _one_cpu = (header.format == Format::Avif).then(OneCpu::enter);
    let side_px_max = limits.pixels_max.isqrt() + 1;
    let image = libheif.open(bytes, u32::try_from(side_px_max).unwrap_or(u32::MAX));
    let image = image.map_err(refusal)?;
    let picture = image.decode().map_err(refusal)?;
    if (picture.width, picture.height) != (header.width, header.height) {
        return Err(Refusal::undecodable(
            "the image is not of the size that its header says",
        ));
    }
    for complaint in picture.warnings() {
        if !complaint.is_about_colors() {
            return Err(refusal(complaint));
        }
        warnings.push(Warning::BadMetadata);
    }
    let mut rgb = Vec::with_capacity(header.width as usize * header.height as usize * 3);
    let is_premultiplied = picture.channels == 4 && image.is_premultiplied();
    for row in picture.rows() {
        on_white::add_row(row, picture.channels, is_premultiplied, &mut rgb);
    }
    RgbImage::from_raw(header.width, header.height, rgb)
        .ok_or_else(|| Refusal::undecodable("the image has no pixels"))
}

/// Checks what libheif does not check: see [`coded_size::check`].
///
/// # Errors
/// [`Reason::Undecodable`]
pub(crate) fn check_coded_size(bytes: &[u8], header: &Header) -> Result<(), Refusal> {
    let codec = codec_of(header.format).expect("only called for HEIC and AVIF");
    let broken = "the image cannot be decoded: its header is cut short or broken";
    let meta = boxes::read_meta(Cursor::new(bytes));
    let meta = meta.map_err(|error| Refusal::undecodable(broken).caused_by(error))?;
    let meta = Meta::parse(&meta).ok_or_else(|| Refusal::undecodable(broken))?;
    coded_size::check(&meta, bytes, codec).map_err(Refusal::undecodable)
}

fn can_start_threads() -> bool {
    let thread = thread::Builder::new().stack_size(64 << 10).spawn(|| ());
    thread.is_ok_and(|thread| thread.join().is_ok())
}

fn refusal(error: LibraryError) -> Refusal {
    let refusal = if error.is_about_memory() {
        Refusal::new(
            Reason::TooManyPixels,
            "decoding the image would take too much memory",
        )
    } else {
        Refusal::undecodable("the image is damaged, cut short or of an unusual kind")
    };
    refusal.caused_by(error)
}

/// A process that did not call [`preload`], or did so in a sandbox.
fn missing(cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::undecodable("the image cannot be decoded: this worker has no decoder for its format")
        .caused_by(cause.to_string())
}
