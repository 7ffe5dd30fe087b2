//! The header of JPEG XL files.

use std::io::BufRead;

use jxl_bitstream::{Bitstream, ContainerParser, ParseEvent};
use jxl_oxide::ImageHeader;
use jxl_oxide_common::Bundle;

use super::{Header, Layout, area, broken, cut_short};
use crate::{Format, Refusal};

/// Bytes of the codestream that are enough for its header. Names of channels may make a header long.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Bytes of a decode for each pixel, beside channels such as alpha. Measured: up to 38 (ADR 22). The decoder gets no more.
const BYTES_PER_PIXEL: u64 = 40;
const BYTES_PER_EXTRA_SAMPLE: u64 = 8;

/// Bytes for tables and for the groups of pixels in work, which small images need too.
const FIXED_BYTES: u64 = 8 << 20;

/// Reads the header. The size is that of the upright image: the decoder turns.
///
/// # Errors
/// The header is cut short or broken.
pub(super) fn read(mut image: impl BufRead) -> Result<Header, Refusal> {
    let mut container = ContainerParser::new();
    let mut codestream = Vec::new();
    let mut left = Vec::new();
    loop {
        // The parser wants bytes again that it did not use: a part of the header of a box.
        let chunk = image.fill_buf().map_err(cut_short)?;
        let chunk = &chunk[..chunk.len().min(HEADER_BYTES_MAX)];
        let is_end = chunk.is_empty();
        let read = chunk.len();
        left.extend_from_slice(chunk);
        image.consume(read);
        // A broken box behind the header is no fault of the header, whether its bytes have arrived or not.
        let mut broken_box = None;
        for event in container.feed_bytes(&left) {
            match event {
                Ok(ParseEvent::Codestream(bytes)) => {
                    let room = HEADER_BYTES_MAX - codestream.len();
                    codestream.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Ok(_) => {}
                Err(error) => broken_box = Some(error),
            }
        }
        left.drain(..container.previous_consumed_bytes());
        match ImageHeader::parse(&mut Bitstream::new(&codestream), ()) {
            Ok(header) => return Ok(header_of(&header)),
            Err(error) if !error.unexpected_eof() => return Err(cut_short(error)),
            Err(_) => {}
        }
        if let Some(error) = broken_box {
            return Err(cut_short(error));
        }
        if is_end || codestream.len() == HEADER_BYTES_MAX {
            return Err(broken());
        }
    }
}

fn header_of(header: &ImageHeader) -> Header {
    let size = (
        header.width_with_orientation(),
        header.height_with_orientation(),
    );
    let extra_channels = header.metadata.ec_info.len() as u64;
    let bytes_per_pixel = BYTES_PER_PIXEL + BYTES_PER_EXTRA_SAMPLE * extra_channels;
    let layout = Layout::Whole {
        decoding_bytes: area(size)
            .saturating_mul(bytes_per_pixel)
            .saturating_add(FIXED_BYTES),
        pixel_bytes: 3,
    };
    Header::new(Format::Jxl, size, layout)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use crate::{Format, Header, Limits, twins::fixture};

    /// A worker has the whole file in memory. The API may read it from a disk, in parts.
    #[test]
    fn a_broken_box_behind_the_header_does_not_matter() {
        let mut file = fixture("formats/p3-packed.jxl");
        let limits = Limits {
            formats: vec![Format::Jxl],
            ..Limits::tests()
        };
        let expected = Header::read(Cursor::new(&file), &limits).expect("a header");
        let name = file.windows(4).position(|name| name == b"jbrd");
        // A whole codestream must not follow a part of one.
        file[name.expect("a packed JPEG")..][..4].copy_from_slice(b"jxlc");
        let header = Header::read(Cursor::new(&file), &limits);
        assert_eq!(header.expect("a header"), expected);
        let slow = BufReader::with_capacity(16, Cursor::new(&file));
        let header = Header::read(slow, &limits);
        assert_eq!(header.expect("a header"), expected);
    }
}
