//! JPEG by libjpeg-turbo. Scaling happens in the DCT domain, so a large photo costs little more than its entropy decoding.
//!
//! libjpeg warns of odd files and of damaged ones. `jpeg.c` decides by what the decoder has read: missing pixels are an error,
//! and everything else is a [`Warning`].

mod libjpeg;
#[cfg(test)]
mod tests;

use image::RgbImage;

use self::libjpeg::{Decoder, Failure, Report};
use crate::{Refusal, Warning, header::eighths};

/// Decodes a JPEG whose header says that its size is `stored`, in pixels.
///
/// # Errors
/// [`Reason::Undecodable`](crate::Reason::Undecodable)
pub(crate) fn decode(
    bytes: &[u8],
    stored: (u32, u32),
    scale_min: f64,
    mut memory: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let eighths = eighths(scale_min);
    let report = match read_pixels(bytes, stored, eighths, &mut memory) {
        Ok(report) => report,
        Err(refused) if (1..bytes.len()).contains(&refused.whole_bytes) => {
            // What looks like a marker behind the last scan stopped libjpeg before it made pixels of the scans.
            let whole = &bytes[..refused.whole_bytes];
            let mut report = read_pixels(whole, stored, eighths, &mut memory)?;
            report.has_stray_bytes = 1;
            report.misses_end = 0;
            report
        }
        Err(refused) => return Err(refused.refusal),
    };
    if report.has_stray_bytes == 1 && report.has_wrong_restarts == 1 {
        return Err(damaged("more restart markers than the picture has"));
    }
    if report.has_stray_bytes == 1 && has_impossible_block(bytes) {
        return Err(damaged("a DC coefficient that no picture has"));
    }
    let found = [
        (
            report.has_bad_header | report.has_wrong_restarts,
            Warning::BadHeader,
        ),
        (report.has_stray_bytes, Warning::StrayBytes),
        (report.misses_end, Warning::MissingEnd),
    ];
    warnings.extend(
        found
            .iter()
            .filter(|(has, _)| *has == 1)
            .map(|(_, warning)| warning),
    );
    match report.channels {
        1 => gray_to_rgb(&mut memory),
        4 => cmyk_to_rgb(&mut memory, report.has_adobe_marker == 1),
        _ => {}
    }
    memory.truncate(report.scaled_pixels() * 3);
    let (width, height) = (report.scaled_width, report.scaled_height);
    Ok(RgbImage::from_raw(width, height, memory).expect("three bytes a pixel"))
}

/// Decodes all pixels to the start of `memory`, which has room for RGB.
fn read_pixels(
    bytes: &[u8],
    stored: (u32, u32),
    eighths: u32,
    memory: &mut Vec<u8>,
) -> Result<Report, Refused> {
    let decoder = Decoder::open(bytes, eighths)?;
    let header = decoder.header();
    if header.bits_per_sample != 8 {
        let bits = header.bits_per_sample;
        let detail = format!("the JPEG has {bits} bits a sample; only 8 can be decoded");
        return Err(Refusal::undecodable(detail).into());
    }
    if (header.width, header.height) != stored {
        let detail = "the JPEG has two headers that differ";
        return Err(Refusal::undecodable(detail).into());
    }
    // Pixels of an earlier image are overwritten, or the image is refused.
    memory.resize(header.scaled_pixels() * header.channels.max(3) as usize, 0);
    Ok(decoder.read(memory)?)
}

struct Refused {
    refusal: Refusal,
    /// All scans of the image are in this many first bytes of the file. 0: not known.
    whole_bytes: usize,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self {
            refusal: damaged(failure.error),
            whole_bytes: failure.whole_bytes,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            whole_bytes: 0,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        refused.refusal
    }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    Refusal::undecodable("the JPEG is damaged or cut short").caused_by(cause)
}

/// Whether a block is darker than black or brighter than white, in a JPEG of one scan.
///
/// A decoder that has lost its place in damaged data reads differences of DC coefficients at random, and bytes are left over
/// at the end. In a sound file such bytes are padding (docs/adr/0005-decoding.md).
fn has_impossible_block(bytes: &[u8]) -> bool {
    /// A DC coefficient is eight times the mean of its block, and samples are from -128 to 127.
    const DC_MAX: i32 = 8 * 128;
    let Ok(decoder) = Decoder::open_dc_picture(bytes) else {
        return false;
    };
    let header = decoder.header();
    if (header.scaled_width, header.scaled_height) == (header.width, header.height) {
        return false; // lossless, so without blocks
    }
    let channels = header.channels as usize;
    // The quantized DC coefficient is rounded, and so is its eighth.
    let limits = header
        .dc_steps
        .map(|step| (step > 0).then(|| DC_MAX / 8 / i32::from(step) + 2));
    let mut samples = vec![0; header.scaled_pixels() * channels];
    if limits == [None; 4] || decoder.read(&mut samples).is_err() {
        return false;
    }
    samples.chunks_exact(channels).any(|block| {
        let mut samples = block.iter().zip(limits);
        samples.any(|(sample, limit)| {
            limit.is_some_and(|limit| (i32::from(*sample) - 128).abs() > limit)
        })
    })
}

/// The first third of `pixels` is gray.
fn gray_to_rgb(pixels: &mut [u8]) {
    // From the end on: a pixel moves towards the end.
    for index in (0..pixels.len() / 3).rev() {
        let gray = pixels[index];
        pixels[3 * index..3 * index + 3].fill(gray);
    }
}

/// Leaves RGB in the first three quarters of `pixels`.
///
/// Adobe writes its channels inverted: 255 is no ink. Without an Adobe marker, 255 is full ink, as in browsers.
fn cmyk_to_rgb(pixels: &mut [u8], is_inverted: bool) {
    let invert = if is_inverted { 0 } else { 255 };
    for index in 0..pixels.len() / 4 {
        let [cyan, magenta, yellow, black] =
            [0, 1, 2, 3].map(|channel| u32::from(pixels[4 * index + channel] ^ invert));
        for (channel, ink) in [cyan, magenta, yellow].into_iter().enumerate() {
            pixels[3 * index + channel] = ((ink * black + 127) / 255) as u8;
        }
    }
}
