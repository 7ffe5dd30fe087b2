//! WebP: the picture, or the first frame of an animation on a white canvas. The background of an animation is only a hint.
//!
//! Containers are often wrong where a viewer does not look: sizes, flags, chunks that are missing. So the chunks of the first
//! frame are found here, and the decoder gets a clean file that has only these.
//!
//! Memory at once: a copy of the compressed frame, and for each pixel of the frame
//! - lossy: 1.5 bytes (YUV) and 3 (RGB);
//! - lossless: 4 (RGBA) and up to 1 (transforms and the map of Huffman codes). A set of Huffman codes takes up to 20 KB, and the
//!   file may have 65,536 sets: the decoder has no limit for them;
//! - lossy with alpha: 1.5 (YUV), 4 (RGBA) and 5 (the alpha channel is decoded as a lossless picture).
//!
//! If the frame is smaller than the canvas, then 3 or 4 bytes for each pixel of the frame, and 3 for each of the canvas.

mod container;
#[cfg(test)]
mod tests;

use std::io::Cursor;

use image::RgbImage;
use image_webp::{DecodingError, WebPDecoder};

use self::container::{Frame, Kind};
use crate::{
    Header, Refusal, Warning,
    on_white::{Alpha, rgba_to_rgb_in_place},
};

pub(crate) fn decode(
    file: &[u8],
    header: &Header,
    memory: Vec<u8>,
    warnings: &mut Vec<Warning>,
) -> Result<RgbImage, Refusal> {
    let frame = Frame::find(file, warnings)?;
    if frame.canvas != (header.width, header.height) {
        return Err(Refusal::undecodable("the WebP has two sizes that differ"));
    }
    let pixels = decode_frame(&frame, memory).map_err(refusal)?;
    let pixels = if frame.covers_canvas() {
        pixels
    } else {
        place_on_white(&frame, &pixels)
    };
    Ok(RgbImage::from_raw(header.width, header.height, pixels).expect("three bytes a pixel"))
}

/// The pixels of a frame as RGB on white.
fn decode_frame(frame: &Frame, mut pixels: Vec<u8>) -> Result<Vec<u8>, DecodingError> {
    let mut decoder = WebPDecoder::new(Cursor::new(frame.to_file()))?;
    let bytes = decoder.output_buffer_size();
    // Pixels of an earlier image are overwritten, or the image is refused.
    pixels.resize(bytes.ok_or(DecodingError::ImageTooLarge)?, 0);
    decoder.read_image(&mut pixels)?;
    match frame.kind {
        Kind::Lossy => {}
        Kind::Lossless { has_alpha: false } => rgba_to_rgb_in_place(&mut pixels, Alpha::Ignore),
        Kind::LossyWithAlpha { .. } | Kind::Lossless { has_alpha: true } => {
            rgba_to_rgb_in_place(&mut pixels, Alpha::Blend);
        }
    }
    Ok(pixels)
}

fn place_on_white(frame: &Frame, pixels: &[u8]) -> Vec<u8> {
    let canvas_row_bytes = 3 * frame.canvas.0 as usize;
    let frame_row_bytes = 3 * frame.width as usize;
    let mut canvas = vec![0xFF; canvas_row_bytes * frame.canvas.1 as usize];
    let canvas_rows = canvas.chunks_exact_mut(canvas_row_bytes);
    let canvas_rows = canvas_rows.skip(frame.top as usize);
    for (canvas_row, row) in canvas_rows.zip(pixels.chunks_exact(frame_row_bytes)) {
        canvas_row[3 * frame.left as usize..][..frame_row_bytes].copy_from_slice(row);
    }
    canvas
}

fn refusal(error: DecodingError) -> Refusal {
    Refusal::undecodable("the WebP is damaged or cut short").caused_by(error)
}
