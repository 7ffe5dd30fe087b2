//! The header of a JPEG: the marker segments up to the first scan, read as libjpeg reads them.

use std::io::{BufRead, Seek};

use super::{Header, Layout, broken, cut_short, exif::ExifBlocks, read_array, skip};
use crate::{Format, Refusal, Warning};

/// Most markers before the pixels. Color profiles and previews take some hundred segments of 64 KB.
const MARKERS_MAX: usize = 1 << 16;

/// Samples a side of a block, whose coefficients are kept together.
const BLOCK: u64 = 8;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let mut frame = None;
    let mut exif = ExifBlocks::default();
    let mut has_stray_bytes = false;
    if read_array(image)? != [0xff, 0xd8] {
        return Err(broken());
    }
    for _ in 0..MARKERS_MAX {
        match next_marker(image, &mut has_stray_bytes)? {
            // FF 00 is no marker. TEM and restart markers stand alone.
            0x00 => has_stray_bytes = true,
            0x01 | 0xd0..=0xd7 => {}
            // SOF0 to SOF3, SOF9 and SOF10.
            marker @ (0xc0..=0xc3 | 0xc9 | 0xca) if frame.is_none() => {
                frame = Some(Frame::read(image, marker)?);
            }
            0xc5..=0xc8 | 0xcb | 0xcd..=0xcf => {
                return Err(unusual(
                    "its pixels are coded in a way that is hardly ever used",
                ));
            }
            // APP1. Of a segment with a thumbnail or a second picture, only the length counts.
            0xe1 => exif_segment(image, &mut exif)?,
            // SOS: the pixels follow.
            0xda => {
                let frame: Frame = frame.ok_or_else(broken)?;
                let mut header = frame.header(scan_components(image)?);
                header.orientation = exif.orientation(&mut header.warnings);
                if has_stray_bytes {
                    header.warnings.push(Warning::StrayBytes);
                }
                return Ok(header);
            }
            // Tables, DNL, applications' data, comments.
            0xc4 | 0xcc | 0xdb..=0xdd | 0xe0..=0xef | 0xfe => {
                let bytes = segment_bytes(image)?;
                skip(image, bytes)?;
            }
            // A second SOI or SOF, the end, or a marker that libjpeg does not know.
            _ => return Err(broken()),
        }
    }
    Err(broken())
}

/// The next marker. Stray bytes before it and fill bytes (any number of FF) are skipped.
fn next_marker(image: &mut impl BufRead, has_stray_bytes: &mut bool) -> Result<u8, Refusal> {
    *has_stray_bytes |= image.skip_until(0xff).map_err(cut_short)? > 1;
    loop {
        let bytes = image.fill_buf().map_err(cut_short)?;
        if bytes.is_empty() {
            return Err(broken());
        }
        if let Some(at) = bytes.iter().position(|&byte| byte != 0xff) {
            let marker = bytes[at];
            image.consume(at + 1);
            return Ok(marker);
        }
        let fill = bytes.len();
        image.consume(fill);
    }
}

/// Bytes of a segment behind its length. libjpeg takes a length below 2 for an empty segment.
fn segment_bytes(image: &mut impl BufRead) -> Result<u64, Refusal> {
    Ok(u16::from_be_bytes(read_array(image)?)
        .saturating_sub(2)
        .into())
}

fn exif_segment(image: &mut (impl BufRead + Seek), exif: &mut ExifBlocks) -> Result<(), Refusal> {
    const NAME: &[u8; 5] = b"Exif\0";
    let bytes = segment_bytes(image)?;
    let Some(rest) = bytes.checked_sub(NAME.len() as u64 + 1) else {
        return skip(image, bytes);
    };
    let [name @ .., _] = read_array::<6>(image)?;
    if name == *NAME {
        exif.read(image, rest)
    } else {
        skip(image, rest)
    }
}

/// Components of the scan that begins.
fn scan_components(image: &mut impl BufRead) -> Result<u8, Refusal> {
    let bytes = segment_bytes(image)?;
    let [components] = read_array(image)?;
    if bytes == u64::from(components) * 2 + 4 && (1..=4).contains(&components) {
        Ok(components)
    } else {
        Err(broken())
    }
}

fn unusual(what: &str) -> Refusal {
    Refusal::undecodable(format!("the JPEG cannot be decoded: {what}"))
}

/// What the SOF segment says.
struct Frame {
    width: u16,
    height: u16,
    components: u8,
    is_progressive: bool,
    is_lossless: bool,
    samples: u64,
}

impl Frame {
    fn read(image: &mut impl BufRead, marker: u8) -> Result<Self, Refusal> {
        let is_lossless = marker == 0xc3;
        let bytes = segment_bytes(image)?;
        let [bits, h1, h0, w1, w0, components] = read_array(image)?;
        if bytes != 6 + 3 * u64::from(components) {
            return Err(broken());
        }
        if !matches!(components, 1 | 3 | 4) {
            return Err(unusual(&format!(
                "it has {components} color components; accepted are 1, 3 and 4"
            )));
        }
        let is_accepted = bits == 8 || is_lossless && (2..8).contains(&bits);
        if !is_accepted {
            return Err(unusual(&format!(
                "it has {bits} bits a sample; accepted are 8"
            )));
        }
        let mut factors = Vec::with_capacity(components.into());
        for _ in 0..components {
            let [_id, factor, _table] = read_array(image)?;
            let (horizontal, vertical) = (u64::from(factor >> 4), u64::from(factor & 15));
            if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
                return Err(broken());
            }
            factors.push((horizontal, vertical));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        Ok(Self {
            width,
            height,
            components,
            is_progressive: matches!(marker, 0xc2 | 0xca),
            is_lossless,
            samples: samples((width, height), &factors, is_lossless),
        })
    }

    fn header(&self, scan_components: u8) -> Header {
        let layout = Layout::Jpeg {
            components: self.components,
            is_lossless: self.is_lossless,
            is_progressive: self.is_progressive,
            // libjpeg decides by the first scan, too.
            keeps_coefficients: self.is_progressive || scan_components < self.components,
            samples: self.samples,
        };
        Header::new(
            Format::Jpeg,
            (self.width.into(), self.height.into()),
            layout,
        )
    }
}

/// Samples of all components, whose sampling factors are given. libjpeg pads each component to whole blocks, and to whole
/// groups of blocks.
fn samples((width, height): (u16, u16), factors: &[(u64, u64)], is_lossless: bool) -> u64 {
    let block = if is_lossless { 1 } else { BLOCK };
    let horizontal_max = factors.iter().map(|factor| factor.0).max().unwrap_or(1);
    let vertical_max = factors.iter().map(|factor| factor.1).max().unwrap_or(1);
    let padded = |side: u16, factor: u64, factor_max: u64| {
        let blocks = (u64::from(side) * factor).div_ceil(factor_max * block);
        blocks.next_multiple_of(factor) * block
    };
    let of_component = |&(horizontal, vertical): &(u64, u64)| {
        padded(width, horizontal, horizontal_max) * padded(height, vertical, vertical_max)
    };
    factors.iter().map(of_component).sum()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::metadata::Orientation;

    use super::super::exif::tests::{BLOCK_WITHOUT_ORIENTATION, block};
    use super::*;
    use crate::Limits;

    const SOI: [u8; 2] = [0xff, 0xd8];

    fn segment(marker: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], payload].concat()
    }

    fn exif(block: &[u8]) -> Vec<u8> {
        segment(0xe1, &[b"Exif\0\0", block].concat())
    }

    /// A frame of 30×20 pixels with these sampling factors.
    fn frame(marker: u8, bits: u8, factors: &[u8]) -> Vec<u8> {
        let mut payload = vec![bits, 0, 20, 0, 30, factors.len() as u8];
        for (id, factor) in factors.iter().enumerate() {
            payload.extend([id as u8 + 1, *factor, 0]);
        }
        segment(marker, &payload)
    }

    fn scan(components: u8) -> Vec<u8> {
        let mut payload = vec![components];
        payload.extend((1..=components).flat_map(|id| [id, 0]));
        payload.extend([0, 63, 0]);
        segment(0xda, &payload)
    }

    fn read(parts: &[&[u8]]) -> Result<Header, Refusal> {
        let bytes = [&SOI, &parts.concat()[..]].concat();
        Header::read(Cursor::new(bytes), &Limits::tests())
    }

    fn photo() -> (Vec<u8>, Vec<u8>) {
        (frame(0xc0, 8, &[0x22, 0x11, 0x11]), scan(3))
    }

    #[test]
    fn the_size_is_that_of_the_frame_and_not_of_a_thumbnail() {
        let (frame, scan) = photo();
        let thumbnail = [&SOI[..], &self::frame(0xc0, 8, &[0x11]), &self::scan(1)].concat();
        let header = read(&[
            &segment(0xe1, &thumbnail),
            &segment(0xed, &thumbnail),
            &frame,
            &scan,
        ])
        .expect("a header");
        assert_eq!((header.width, header.height), (30, 20));
        assert_eq!(header.picture, (30, 20));
        assert_eq!(header.warnings, []);
    }

    #[test]
    fn fill_bytes_are_legal_before_every_marker() {
        let (frame, scan) = photo();
        let header = read(&[&[0xff; 9], &frame, &vec![0xff; 20_000], &scan]).expect("a header");
        assert_eq!((header.width, header.warnings), (30, vec![]));
    }

    #[test]
    fn stray_bytes_between_segments_are_skipped_with_a_warning() {
        let (frame, scan) = photo();
        for stray in [&[0, 0][..], &[7; 300], &[0xff, 0]] {
            let header = read(&[&segment(0xfe, b"a comment"), stray, &frame, stray, &scan]);
            let header = header.expect("a header");
            assert_eq!((header.width, header.height), (30, 20));
            assert_eq!(header.warnings, [Warning::StrayBytes]);
        }
    }

    #[test]
    fn the_orientation_is_found_wherever_its_segment_stands() {
        let (frame, scan) = photo();
        let turned = exif(&block(6));
        for parts in [[&turned, &frame, &scan], [&frame, &turned, &scan]] {
            let header = read(&parts.map(|part| &part[..])).expect("a header");
            assert_eq!(header.orientation, Orientation::Rotate90);
            assert_eq!(header.upright_size(), (20, 30));
        }
        let after = read(&[&frame, &scan, &turned]).expect("a header");
        assert_eq!(after.orientation, Orientation::NoTransforms);
    }

    #[test]
    fn the_second_exif_block_counts_if_the_first_has_no_orientation() {
        let (frame, scan) = photo();
        let orientation = |first: &[u8], second: &[u8]| {
            let header = read(&[&exif(first), &exif(second), &frame, &scan]).expect("a header");
            header.orientation
        };
        let none = BLOCK_WITHOUT_ORIENTATION;
        assert_eq!(orientation(none, &block(6)), Orientation::Rotate90);
        assert_eq!(orientation(&block(0), &block(6)), Orientation::Rotate90);
        assert_eq!(orientation(b"broken", &block(6)), Orientation::Rotate90);
        assert_eq!(orientation(&block(6), &block(1)), Orientation::Rotate90);
        assert_eq!(orientation(&block(1), &block(6)), Orientation::NoTransforms);
    }

    #[test]
    fn a_broken_exif_block_is_a_warning() {
        let (frame, scan) = photo();
        let header = read(&[&exif(b"II*\0\xff\xff\xff\xff"), &frame, &scan]).expect("a header");
        assert_eq!(header.orientation, Orientation::NoTransforms);
        assert_eq!(header.warnings, [Warning::BadMetadata]);
    }

    #[test]
    fn only_several_scans_keep_their_coefficients() {
        let keeps = |marker, scan_components| {
            let frame = frame(marker, 8, &[0x22, 0x11, 0x11]);
            let header = read(&[&frame, &scan(scan_components)]).expect("a header");
            // Luma: 4×4 blocks, because a group has 2×2; chroma: 2×2 blocks.
            let expected = (16 + 4 + 4) * 64;
            match header.layout {
                Layout::Jpeg {
                    keeps_coefficients,
                    samples,
                    ..
                } => {
                    assert_eq!(samples, expected);
                    let coefficients = if keeps_coefficients { 2 * expected } else { 0 };
                    let rest = 30 * 20 * 3 + 64 * 30 * 3 + expected / 64;
                    assert_eq!(header.decode_bytes(1.0), coefficients + rest);
                    keeps_coefficients
                }
                Layout::Whole { .. } => panic!("the layout of a JPEG"),
            }
        };
        assert!(!keeps(0xc0, 3));
        assert!(keeps(0xc0, 1));
        assert!(keeps(0xc2, 3));
        assert!(keeps(0xca, 3));
    }

    #[test]
    fn a_jpeg_without_a_frame_or_a_scan_is_refused() {
        let (frame, scan) = photo();
        let end = [0xff, 0xd9];
        for parts in [
            &[&segment(0xfe, b"a comment")[..]][..],
            &[&frame[..12]],
            &[&frame],
            &[&scan],
            &[&end, &frame, &scan],
            &[&frame, &frame, &scan],
            &[&SOI, &frame, &scan],
        ] {
            let refusal = read(parts).expect_err("refused");
            assert_eq!(refusal.detail, broken().detail);
        }
    }

    #[test]
    fn a_kind_that_libjpeg_cannot_decode_is_refused_with_a_reason() {
        let refusal = |frame: &[u8]| read(&[frame, &scan(1)]).expect_err("refused").detail;
        assert!(refusal(&frame(0xc1, 12, &[0x11; 3])).contains("12 bits"));
        assert!(refusal(&frame(0xc0, 8, &[0x11; 2])).contains("2 color components"));
        assert!(refusal(&frame(0xc5, 8, &[0x11])).contains("hardly ever"));
    }

    #[test]
    fn endless_fill_bytes_and_tiny_segments_are_refused() {
        let comment = segment(0xfe, b"");
        for endless in [
            vec![0xff; 20 << 20],
            comment.repeat(5 << 20),
            vec![0; 20 << 20],
        ] {
            read(&[&endless]).expect_err("refused");
        }
    }
}
