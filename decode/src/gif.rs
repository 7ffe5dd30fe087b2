//! GIF: its first frame on a white screen. The part of the frame outside of the screen is not shown.
//!
//! Memory: the screen as RGB, one row of the frame, and a copy of the file's XMP data and color profile.

#[cfg(test)]
mod tests;

use ::gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, Frame, MemoryLimit};
use image::RgbImage;

use crate::{Header, Reason, Refusal, Warning};

pub(crate) fn decode(
    file: &[u8],
    header: &Header,
    mut pixels: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    // For XMP data and color profiles, which cannot be larger than the file.
    options.set_memory_limit(MemoryLimit::Unlimited);
    let mut decoder = options.read_info(file).map_err(refusal)?;
    let frame = decoder.next_frame_info().map_err(refusal)?;
    let frame = frame.ok_or_else(|| Refusal::undecodable("the GIF has no picture"))?;
    check_size(frame, header)?;
    let (top, left, width) = (frame.top, usize::from(frame.left), usize::from(frame.width));
    let rows = rows(frame);
    let colors = colors(frame.transparent, decoder.palette().map_err(refusal)?);

    pixels.clear();
    pixels.resize(3 * header.width as usize * header.height as usize, 0xFF);
    let screen_row_bytes = 3 * header.width as usize;
    let mut indices = vec![0; width];
    for row in rows {
        let is_whole = decoder.fill_buffer(&mut indices).map_err(refusal)?;
        if !is_whole {
            return Err(Refusal::undecodable("the GIF is cut short"));
        }
        let line = usize::from(top) + row;
        if line >= header.height as usize {
            continue;
        }
        let screen_row = &mut pixels[line * screen_row_bytes..][..screen_row_bytes];
        let places = screen_row.as_chunks_mut::<3>().0.iter_mut().skip(left);
        for (place, index) in places.zip(&indices) {
            if let Some(color) = colors[usize::from(*index)] {
                *place = color;
            }
        }
    }
    warnings.extend(warning_after_first_frame(&mut decoder));
    Ok(RgbImage::from_raw(header.width, header.height, pixels).expect("three bytes a pixel"))
}

fn check_size(frame: &Frame, header: &Header) -> Result<(), Refusal> {
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let frame_area = area((frame.width.into(), frame.height.into()));
    if frame_area == 0 {
        return Err(Refusal::undecodable(
            "the first frame of the GIF has no pixels",
        ));
    }
    // `Limits::check` knows the frame that the header has.
    if frame_area > area(header.picture).max(area((header.width, header.height))) {
        return Err(Refusal::new(
            Reason::TooManyPixels,
            "the first frame of the GIF is larger than its header says",
        ));
    }
    Ok(())
}

/// The rows of a frame in the order of the file.
fn rows(frame: &Frame) -> impl Iterator<Item = usize> + use<> {
    let height = usize::from(frame.height);
    let passes: &'static [(usize, usize)] = if frame.interlaced {
        &[(0, 8), (4, 8), (2, 4), (1, 2)]
    } else {
        &[(0, 1)]
    };
    passes
        .iter()
        .flat_map(move |(first, step)| (*first..height).step_by(*step))
}

/// The color of each index. None is transparent: the index of the frame, and what the palette does not have.
fn colors(transparent: Option<u8>, palette: &[u8]) -> [Option<[u8; 3]>; 256] {
    let mut colors = [None; 256];
    for (color, rgb) in colors.iter_mut().zip(palette.as_chunks::<3>().0) {
        *color = Some(*rgb);
    }
    if let Some(index) = transparent {
        colors[usize::from(index)] = None;
    }
    colors
}

/// Reads the file to its end, without the pixels of the other frames.
fn warning_after_first_frame(decoder: &mut Decoder<&[u8]>) -> Option<Warning> {
    loop {
        match decoder.next_frame_info() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(DecodingError::UnexpectedEof) => return Some(Warning::MissingEnd),
            Err(_) => return Some(Warning::StrayBytes),
        }
    }
}

fn refusal(error: DecodingError) -> Refusal {
    Refusal::undecodable("the GIF is damaged or cut short").caused_by(error)
}
