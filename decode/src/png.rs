//! PNG. A picture is accepted if the file has all its rows. Other faults of the file are warnings.
//!
//! Memory: the image as RGB, a few rows, and less than a megabyte.

mod chunks;
mod clean;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;

use ::png::{BitDepth, DecodeOptions, Decoder, DecodingError, InterlaceInfo, Transformations};
use image::RgbImage;

use self::{
    chunks::{Parts, cut},
    clean::CleanPng,
};
use crate::{
    Header, Refusal, Warning,
    on_white::{to_8_bits, to_rgb},
};

pub(crate) fn decode(
    file: &[u8],
    header: &Header,
    memory: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let parts = Parts::find(file, warnings)?;
    if (parts.header.width, parts.header.height) != (header.width, header.height) {
        return Err(Refusal::undecodable("the PNG has two headers that differ"));
    }
    let mut png = CleanPng::new(&parts);
    let image = read_rows(&mut png, header, memory).map_err(refusal)?;
    png.finish(warnings);
    Ok(image)
}

fn read_rows(
    png: &mut CleanPng,
    header: &Header,
    mut pixels: Vec<u8>,
) -> Result<RgbImage, DecodingError> {
    // `CleanPng` writes no checksums.
    let mut options = DecodeOptions::default();
    options.set_ignore_checksums(true);
    let mut decoder = Decoder::new_with_options(png, options);
    // The crate counts its buffers for rows. `Limits::check` has checked the size of the image.
    decoder.set_limits(::png::Limits { bytes: usize::MAX });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info()?;

    let (color, depth) = reader.output_color_type();
    let (channels, is_16_bits) = (color.samples(), depth == BitDepth::Sixteen);
    let row_bytes = 3 * header.width as usize;
    // Pixels of an earlier image are overwritten, or the image is refused.
    pixels.resize(row_bytes * header.height as usize, 0);
    if channels == 3 && !is_16_bits && !reader.info().interlaced {
        for row in pixels.chunks_exact_mut(row_bytes) {
            reader.read_row(row)?;
        }
        return Ok(rgb_image(header, pixels));
    }
    let mut eight_bits = Vec::new();
    let mut rgb = vec![0; row_bytes];
    let mut lines = 0..header.height as usize;
    while let Some(row) = reader.next_interlaced_row()? {
        let samples = if is_16_bits {
            eight_bits.clear();
            let samples = row.data().as_chunks::<2>().0.iter();
            eight_bits.extend(samples.map(|sample| to_8_bits(u16::from_be_bytes(*sample))));
            eight_bits.as_slice()
        } else {
            row.data()
        };
        if let InterlaceInfo::Adam7(place) = row.interlace() {
            let rgb = &mut rgb[..samples.len() / channels * 3];
            to_rgb(samples, channels, false, rgb);
            ::png::expand_interlaced_row(&mut pixels, row_bytes, rgb, place, 24);
        } else if let Some(line) = lines.next() {
            let pixels = &mut pixels[line * row_bytes..][..row_bytes];
            to_rgb(samples, channels, false, pixels);
        }
    }
    Ok(rgb_image(header, pixels))
}

fn rgb_image(header: &Header, pixels: Vec<u8>) -> RgbImage {
    RgbImage::from_raw(header.width, header.height, pixels).expect("three bytes a pixel")
}

fn refusal(error: DecodingError) -> Refusal {
    let refusal = match &error {
        DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => cut(),
        _ => Refusal::undecodable("the PNG is damaged or of an unusual kind"),
    };
    refusal.caused_by(error)
}
