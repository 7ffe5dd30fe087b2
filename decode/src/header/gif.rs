//! The header of a GIF: its screen, and its first frame.

use std::io::{BufRead, Seek};

use super::{Header, Layout, area, broken, read_array, skip};
use crate::{Format, Refusal};

/// Most sub-blocks before the first frame, of up to 255 bytes each: enough for comments and color profiles of megabytes.
const SUB_BLOCKS_MAX: usize = 1 << 17;

/// The picture is as large as the screen. All rows of the first frame are decoded, though they may lie outside of the screen.
pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let _signature: [u8; 6] = read_array(image)?;
    let [w0, w1, h0, h1, flags, _background, _aspect] = read_array(image)?;
    let screen = (
        u16::from_le_bytes([w0, w1]).into(),
        u16::from_le_bytes([h0, h1]).into(),
    );
    if flags & 0x80 != 0 {
        skip(image, 3 << ((flags & 7) + 1))?;
    }
    let frame = first_frame(image)?;
    let layout = Layout::Whole {
        // The screen as RGB, and a row of the frame.
        decoding_bytes: area(screen) * 3 + u64::from(frame.0) + (1 << 16),
        pixel_bytes: 3,
    };
    let mut header = Header::new(Format::Gif, screen, layout);
    if area(frame) > area(screen) {
        header.picture = frame;
    }
    Ok(header)
}

/// Pixels of the first frame. Extensions before it are skipped.
fn first_frame(image: &mut (impl BufRead + Seek)) -> Result<(u32, u32), Refusal> {
    let mut sub_blocks = 0;
    loop {
        match read_array(image)? {
            [b','] => {
                let [_x0, _x1, _y0, _y1, w0, w1, h0, h1] = read_array(image)?;
                let side = |low, high| u32::from(u16::from_le_bytes([low, high]));
                return Ok((side(w0, w1), side(h0, h1)));
            }
            [b'!'] => {
                let [_label] = read_array(image)?;
                loop {
                    let [bytes] = read_array(image)?;
                    sub_blocks += 1;
                    if sub_blocks > SUB_BLOCKS_MAX {
                        return Err(broken());
                    }
                    if bytes == 0 {
                        break;
                    }
                    skip(image, bytes.into())?;
                }
            }
            // The end, or no block of a GIF.
            _ => return Err(broken()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{Limits, Reason};

    const COMMENT: &[u8] = b"!\xfe\x03abc\x02de\0";

    /// A GIF with a palette of 4 colors and no pixels.
    fn gif(screen: [u16; 2], blocks: &[u8], frame: [u16; 2]) -> Vec<u8> {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend(screen.map(u16::to_le_bytes).concat());
        bytes.extend([0x81, 0, 0]);
        bytes.extend([b','; 12]);
        bytes.extend(blocks);
        bytes.extend(b",\xff\xff\xff\xff");
        bytes.extend(frame.map(u16::to_le_bytes).concat());
        bytes.push(0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header, Refusal> {
        Header::read(Cursor::new(bytes), &Limits::tests())
    }

    #[test]
    fn a_huge_frame_on_a_small_screen_counts() {
        let header = read(&gif([1, 1], COMMENT, [11_000, 11_000])).expect("a header");
        assert_eq!((header.width, header.height), (1, 1));
        assert_eq!(header.picture, (11_000, 11_000));
        let refusal = Limits::tests().check(&header).expect_err("refused");
        assert_eq!(refusal.reason, Reason::TooManyPixels);
        assert!(refusal.detail.contains("11000×11000"), "{}", refusal.detail);
    }

    #[test]
    fn a_frame_that_is_smaller_than_the_screen_does_not_change_the_size() {
        let header = read(&gif([30, 20], &COMMENT.repeat(9), [10, 10])).expect("a header");
        assert_eq!((header.width, header.height), (30, 20));
        assert_eq!(header.picture, (30, 20));
    }

    #[test]
    fn a_screen_without_pixels_is_refused() {
        let refusal = read(&gif([0, 20], b"", [30, 20])).expect_err("refused");
        assert!(refusal.detail.contains("no pixels"), "{}", refusal.detail);
    }

    #[test]
    fn a_gif_without_a_frame_is_refused() {
        let whole = gif([30, 20], COMMENT, [30, 20]);
        for cut in [6, 12, 20, 28, whole.len() - 3] {
            assert_eq!(
                read(&whole[..cut]).expect_err("refused").detail,
                broken().detail
            );
        }
        read(&gif([30, 20], b";", [30, 20])).expect_err("refused");
        read(&gif(
            [30, 20],
            &[b"!\xfe", &vec![1; 1 << 20][..]].concat(),
            [30, 20],
        ))
        .expect_err("refused");
    }
}
