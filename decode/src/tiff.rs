//! TIFF: the first picture of the file. JPEG strips are decoded as JPEGs are, everything else by the crate `tiff`.
//!
//! Memory: the image as RGB, and its samples (up to 4 of 2 bytes a pixel) or one JPEG strip.

mod jpeg_strips;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use ::tiff::{
    ColorType, TiffError,
    decoder::{BufferLayoutPreference, Decoder, DecodingResult, Limits as DecoderLimits},
    tags::{CompressionMethod, ExtraSamples, SampleFormat, Tag},
};
use image::RgbImage;

use crate::{
    Header, Limits, Refusal, Warning,
    on_white::{add_row, to_8_bits},
};

pub(crate) fn decode(
    file: &[u8],
    header: &Header,
    limits: &Limits,
    mut pixels: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let mut decoder = Decoder::new(Cursor::new(file)).map_err(refusal)?;
    if decoder.dimensions().map_err(refusal)? != (header.width, header.height) {
        return Err(Refusal::undecodable("the TIFF has two sizes that differ"));
    }
    let compression = decoder.find_tag_unsigned(Tag::Compression);
    let is_jpeg = compression.map_err(refusal)? == Some(CompressionMethod::ModernJPEG.to_u16());
    pixels.clear();
    pixels.reserve(3 * header.width as usize * header.height as usize);
    if is_jpeg {
        jpeg_strips::decode(&mut decoder, file, header, limits, &mut pixels, warnings)?;
    } else {
        Picture::read(decoder, limits)?.add_rgb(header, &mut pixels)?;
    }
    Ok(RgbImage::from_raw(header.width, header.height, pixels).expect("three bytes a pixel"))
}

/// The samples of a picture.
struct Picture {
    color: ColorType,
    channels: usize,
    bits: u8,
    layout: BufferLayoutPreference,
    samples: DecodingResult,
    /// RGB is multiplied by alpha.
    is_premultiplied: bool,
}

impl Picture {
    fn read(mut decoder: Decoder<Cursor<&[u8]>>, limits: &Limits) -> Result<Self, Refusal> {
        let color = decoder.colortype().map_err(refusal)?;
        let (channels, bits) = match color {
            ColorType::Gray(bits) => (1, bits),
            ColorType::RGB(bits) => (3, bits),
            ColorType::RGBA(bits) | ColorType::CMYK(bits) => (4, bits),
            _ => return Err(unusual()),
        };
        let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
        let extra = extra.map_err(refusal)?.unwrap_or_default();
        let bytes_max = usize::try_from(limits.bytes_max).unwrap_or(usize::MAX);
        let mut decoder_limits = DecoderLimits::default();
        decoder_limits.decoding_buffer_size = bytes_max;
        decoder_limits.intermediate_buffer_size = bytes_max;
        let mut decoder = decoder.with_limits(decoder_limits);
        let mut samples = DecodingResult::U8(Vec::new());
        let layout = decoder
            .read_image_to_buffer(&mut samples)
            .map_err(refusal)?;
        // `tiff` reads fewer planes if all would be too large.
        let is_whole = samples.as_buffer(0).as_bytes().len() >= layout.complete_len;
        if !is_whole || layout.sample_format != SampleFormat::Uint {
            return Err(unusual());
        }
        Ok(Self {
            color,
            channels,
            bits,
            layout,
            samples,
            is_premultiplied: extra.first() == Some(&ExtraSamples::AssociatedAlpha.to_u16()),
        })
    }

    fn add_rgb(&self, header: &Header, rgb: &mut Vec<u8>) -> Result<(), Refusal> {
        let (width, height) = (header.width as usize, header.height as usize);
        let channels = self.channels;
        let mut row = vec![0; channels * width];
        for y in 0..height {
            match (&self.samples, self.bits) {
                (DecodingResult::U8(bytes), bits @ (1 | 2 | 4)) if channels == 1 => {
                    let row_bytes = (width * usize::from(bits)).div_ceil(8);
                    let packed = bytes.get(y * row_bytes..).ok_or_else(unusual)?;
                    unpack(packed, bits, &mut row)?;
                }
                (DecodingResult::U8(bytes), 8) => {
                    let sample = |index: usize| bytes.get(index).copied();
                    self.copy_row(y, height, &mut row, sample)?;
                }
                (DecodingResult::U16(words), 16) => {
                    let sample = |index: usize| words.get(index).copied().map(to_8_bits);
                    self.copy_row(y, height, &mut row, sample)?;
                }
                _ => return Err(unusual()),
            }
            if matches!(self.color, ColorType::CMYK(_)) {
                add_cmyk(&row, rgb);
            } else {
                add_row(&row, channels, self.is_premultiplied, rgb);
            }
        }
        Ok(())
    }

    /// Copies a row. The samples of a pixel lie side by side, or each channel is a picture of its own.
    fn copy_row(
        &self,
        y: usize,
        height: usize,
        row: &mut [u8],
        sample: impl Fn(usize) -> Option<u8>,
    ) -> Result<(), Refusal> {
        let (samples, channels) = (row.len(), self.channels);
        let width = samples / channels;
        for (index, to) in row.iter_mut().enumerate() {
            let (x, channel) = (index / channels, index % channels);
            let from = match self.layout.planes {
                1 => y * samples + index,
                planes if planes == channels => (channel * height + y) * width + x,
                _ => return Err(unusual()),
            };
            *to = sample(from).ok_or_else(unusual)?;
        }
        Ok(())
    }
}

/// Reads samples of less than a byte. The first one is in the highest bits.
fn unpack(packed: &[u8], bits: u8, row: &mut [u8]) -> Result<(), Refusal> {
    let highest = (1_u8 << bits) - 1;
    for (index, to) in row.iter_mut().enumerate() {
        let bit = index * usize::from(bits);
        let byte = packed.get(bit / 8).ok_or_else(unusual)?;
        let value = (byte >> (8 - usize::from(bits) - bit % 8)) & highest;
        *to = value * (255 / highest);
    }
    Ok(())
}

/// 0 is no ink.
fn add_cmyk(row: &[u8], rgb: &mut Vec<u8>) {
    for &[cyan, magenta, yellow, black] in row.as_chunks::<4>().0 {
        rgb.extend([cyan, magenta, yellow].map(|ink| {
            let light = u32::from(255 - ink) * u32::from(255 - black);
            ((light + 127) / 255) as u8
        }));
    }
}

fn unusual() -> Refusal {
    Refusal::undecodable("the TIFF is of an unusual kind")
}

fn refusal(error: TiffError) -> Refusal {
    Refusal::undecodable("the TIFF is damaged, cut short or of an unusual kind").caused_by(error)
}
