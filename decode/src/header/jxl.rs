//! The header of JPEG XL files.

use std::io::{self, BufRead};

use image::metadata::Orientation;
use jxl_bitstream::{Bitstream, ContainerParser, ParseEvent};
use jxl_oxide::ImageHeader;
use jxl_oxide_common::Bundle;

use super::{Header, Layout};
use crate::Format;

/// Bytes of the codestream that are enough for its header. Names of channels may make a header long.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Bytes of a decode for each pixel and channel.
const BYTES_PER_SAMPLE: usize = 12;

/// Reads the header. The size is that of the upright image: the decoder turns.
///
/// # Errors
/// The header is cut short or broken, or the file cannot be read.
pub(super) fn read(mut image: impl BufRead) -> io::Result<Header> {
    let mut container = ContainerParser::new();
    let mut codestream = Vec::new();
    let mut left = Vec::new();
    loop {
        // The parser wants bytes again that it did not use: a part of the header of a box.
        let chunk = image.fill_buf()?;
        let chunk = &chunk[..chunk.len().min(HEADER_BYTES_MAX)];
        let is_end = chunk.is_empty();
        let read = chunk.len();
        left.extend_from_slice(chunk);
        image.consume(read);
        for event in container.feed_bytes(&left) {
            if let ParseEvent::Codestream(bytes) = event.map_err(io::Error::other)? {
                let room = HEADER_BYTES_MAX - codestream.len();
                codestream.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
        left.drain(..container.previous_consumed_bytes());
        match ImageHeader::parse(&mut Bitstream::new(&codestream), ()) {
            Ok(header) => return Ok(header_of(&header)),
            Err(error) if !error.unexpected_eof() => return Err(io::Error::other(error)),
            Err(_) if codestream.len() == HEADER_BYTES_MAX => {
                return Err(io::ErrorKind::InvalidData.into());
            }
            Err(_) if is_end => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => {}
        }
    }
}

fn header_of(header: &ImageHeader) -> Header {
    let (width, height) = (
        header.width_with_orientation(),
        header.height_with_orientation(),
    );
    let channels = 3 + header.metadata.ec_info.len();
    let bytes_per_pixel = u8::try_from(channels * BYTES_PER_SAMPLE).unwrap_or(u8::MAX);
    Header {
        format: Format::Jxl,
        width,
        height,
        picture: (width, height),
        orientation: Orientation::NoTransforms,
        layout: Layout::Whole { bytes_per_pixel },
    }
}
