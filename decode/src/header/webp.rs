//! The header of a WebP: the size of its canvas and the size in the bitstream of its first frame, which must agree.
//!
//! A WebP is turned by its chunk EXIF wherever it stands, also if the flag for it is not set.

mod bitstream;

use std::io::{BufRead, Seek, SeekFrom};

use image::metadata::Orientation;

use self::bitstream::Bitstream;
use super::{Header, Layout, area, broken, cut_short, exif::ExifBlocks, read_array, skip};
use crate::{Format, Refusal, Warning};

/// Most chunks that are read. Each frame of an animation is one.
const CHUNKS_MAX: usize = 1 << 16;

/// Most chunks of a frame before its pixels. There is one, with its alpha.
const FRAME_CHUNKS_MAX: usize = 8;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let _riff: [u8; 4] = read_array(image)?;
    let riff_bytes = u64::from(u32::from_le_bytes(read_array(image)?));
    let _webp: [u8; 4] = read_array(image)?;
    let chunk = Chunk::read(image)?;
    let mut header = match &chunk.name {
        b"VP8X" => {
            let canvas = Canvas::read(image, &chunk)?;
            // A size that leaves no room for a chunk is no size: programs that write to a stream leave 0.
            let mut left = if riff_bytes < 12 {
                u64::MAX
            } else {
                riff_bytes - 4
            };
            left = left.saturating_sub(chunk.whole_bytes());
            Parts::read(image, left, &canvas)?.header(&canvas)?
        }
        _ => {
            let frame = Bitstream::read(image, &chunk)?;
            let layout = still_layout(&frame, frame.is_lossless_with_alpha, false);
            Header::new(Format::Webp, frame.size, layout)
        }
    };
    let file_bytes = image.seek(SeekFrom::End(0)).map_err(cut_short)?;
    if riff_bytes < 12 || riff_bytes + 8 > file_bytes {
        header.warnings.push(Warning::BadHeader);
    }
    Ok(header)
}

/// Name and length of a chunk.
struct Chunk {
    name: [u8; 4],
    bytes: u64,
}

impl Chunk {
    fn read(image: &mut impl BufRead) -> Result<Self, Refusal> {
        Ok(Self {
            name: read_array(image)?,
            bytes: u32::from_le_bytes(read_array(image)?).into(),
        })
    }

    /// Bytes of the chunk with its name, its length and its padding.
    fn whole_bytes(&self) -> u64 {
        8 + self.bytes.next_multiple_of(2)
    }

    /// Moves behind the chunk, of which so many bytes have been read.
    fn skip_rest(&self, image: &mut impl Seek, read: u64) -> Result<(), Refusal> {
        skip(image, self.bytes.next_multiple_of(2).saturating_sub(read))
    }
}

/// The chunk VP8X.
struct Canvas {
    size: (u32, u32),
    has_profile: bool,
    has_alpha: bool,
    has_exif: bool,
    has_xmp: bool,
    is_animated: bool,
}

impl Canvas {
    fn read(image: &mut (impl BufRead + Seek), chunk: &Chunk) -> Result<Self, Refusal> {
        let [flags, _r0, _r1, _r2, w0, w1, w2, h0, h1, h2] = read_array(image)?;
        chunk.skip_rest(image, 10)?;
        Ok(Self {
            size: (1 + number([w0, w1, w2]), 1 + number([h0, h1, h2])),
            has_profile: flags & 0x20 != 0,
            has_alpha: flags & 0x10 != 0,
            has_exif: flags & 0x08 != 0,
            has_xmp: flags & 0x04 != 0,
            is_animated: flags & 0x02 != 0,
        })
    }
}

fn number([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

/// What the chunks behind VP8X say.
#[derive(Default)]
struct Parts {
    frame: Option<Frame>,
    has_alpha_chunk: bool,
    has_profile: bool,
    has_xmp: bool,
    exif: ExifBlocks,
}

struct Frame {
    /// Pixels from the left and from the top of the canvas.
    at: (u32, u32),
    size: (u32, u32),
    bitstream: Bitstream,
}

impl Parts {
    /// Reads the chunks of the next `left` bytes.
    fn read(
        image: &mut (impl BufRead + Seek),
        mut left: u64,
        canvas: &Canvas,
    ) -> Result<Self, Refusal> {
        let mut parts = Self::default();
        for _ in 0..CHUNKS_MAX {
            // The end of the file.
            let Ok(chunk) = Chunk::read(image) else { break };
            let mut read = 0;
            match &chunk.name {
                _ if left < 8 => break,
                b"VP8 " | b"VP8L" if !canvas.is_animated && parts.frame.is_none() => {
                    let bitstream = Bitstream::read(image, &chunk)?;
                    read = Bitstream::header_bytes(chunk.name);
                    parts.frame = Some(Frame {
                        at: (0, 0),
                        size: canvas.size,
                        bitstream,
                    });
                }
                b"ANMF" if canvas.is_animated && parts.frame.is_none() => {
                    read = parts.read_frame(image)?;
                }
                b"ALPH" if parts.frame.is_none() => parts.has_alpha_chunk = true,
                b"ICCP" => parts.has_profile = true,
                b"XMP " => parts.has_xmp = true,
                b"EXIF" => {
                    // A cut block is a broken block.
                    let _cut = parts.exif.read(image, chunk.bytes);
                    read = chunk.bytes;
                }
                _ => {}
            }
            chunk.skip_rest(image, read)?;
            left = left.saturating_sub(chunk.whole_bytes());
        }
        Ok(parts)
    }

    /// Reads a chunk ANMF up to the header of its pixels. Returns how many bytes it read.
    fn read_frame(&mut self, image: &mut (impl BufRead + Seek)) -> Result<u64, Refusal> {
        let at = [number(read_array(image)?), number(read_array(image)?)];
        let size = [number(read_array(image)?), number(read_array(image)?)];
        let _duration_and_flags: [u8; 4] = read_array(image)?;
        let mut read = 16;
        for _ in 0..FRAME_CHUNKS_MAX {
            let chunk = Chunk::read(image)?;
            if matches!(&chunk.name, b"VP8 " | b"VP8L") {
                self.frame = Some(Frame {
                    at: (2 * at[0], 2 * at[1]),
                    size: (1 + size[0], 1 + size[1]),
                    bitstream: Bitstream::read(image, &chunk)?,
                });
                return Ok(read + 8 + Bitstream::header_bytes(chunk.name));
            }
            self.has_alpha_chunk |= &chunk.name == b"ALPH";
            chunk.skip_rest(image, 0)?;
            read += chunk.whole_bytes();
        }
        Err(broken())
    }

    fn header(self, canvas: &Canvas) -> Result<Header, Refusal> {
        let Some(frame) = self.frame else {
            return Err(broken());
        };
        let bitstream = &frame.bitstream;
        let fits = frame.at.0 + frame.size.0 <= canvas.size.0
            && frame.at.1 + frame.size.1 <= canvas.size.1;
        if !fits || bitstream.size != frame.size {
            return Err(Refusal::undecodable(format!(
                "the WebP cannot be decoded: it has {}×{} pixels by its header, but its first picture has {}×{}",
                canvas.size.0, canvas.size.1, bitstream.size.0, bitstream.size.1
            )));
        }
        let has_alpha = self.has_alpha_chunk || bitstream.is_lossless_with_alpha;
        let layout = if canvas.is_animated {
            Layout::Whole {
                // RGBA.
                pixel_bytes: 4,
                has_alpha: true,
                // The canvas; and the frame as RGBA, before it is placed on the canvas.
                working_bytes: area(canvas.size) * 4
                    + area(frame.size) * 4
                    + bitstream.working_bytes(self.has_alpha_chunk),
            }
        } else {
            still_layout(
                bitstream,
                has_alpha || canvas.has_alpha,
                self.has_alpha_chunk,
            )
        };
        let mut header = Header::new(Format::Webp, canvas.size, layout);
        let breaks_promise = canvas.has_profile && !self.has_profile
            || canvas.has_xmp && !self.has_xmp
            || canvas.has_exif && !self.exif.is_used()
            || canvas.has_alpha && !has_alpha && !canvas.is_animated;
        if breaks_promise {
            header.warnings.push(Warning::BadHeader);
        }
        header.orientation = self.exif.orientation(&mut header.warnings);
        Ok(header)
    }
}

fn still_layout(bitstream: &Bitstream, has_alpha: bool, has_alpha_chunk: bool) -> Layout {
    Layout::Whole {
        pixel_bytes: if has_alpha { 4 } else { 3 },
        has_alpha,
        working_bytes: bitstream.working_bytes(has_alpha_chunk),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::exif::tests::block;
    use super::*;
    use crate::Limits;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u32).to_le_bytes();
        let padding = &[0][..data.len() % 2];
        [name, &length[..], data, padding].concat()
    }

    fn webp(chunks: &[&[u8]]) -> Vec<u8> {
        let chunks = chunks.concat();
        let length = (chunks.len() as u32 + 4).to_le_bytes();
        [b"RIFF", &length[..], b"WEBP", &chunks].concat()
    }

    fn vp8(width: u16, height: u16) -> Vec<u8> {
        let [w0, w1] = width.to_le_bytes();
        let [h0, h1] = height.to_le_bytes();
        chunk(
            b"VP8 ",
            &[0, 0, 0, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, 1, 2, 3],
        )
    }

    fn vp8l(width: u32, height: u32, has_alpha: bool) -> Vec<u8> {
        let bits = (width - 1) | (height - 1) << 14 | u32::from(has_alpha) << 28;
        chunk(b"VP8L", &[&[0x2f], &bits.to_le_bytes()[..]].concat())
    }

    fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
        let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
        chunk(
            b"VP8X",
            &[&[flags, 0, 0, 0], &width[..3], &height[..3]].concat(),
        )
    }

    fn anmf(at: (u32, u32), size: (u32, u32), chunks: &[u8]) -> Vec<u8> {
        let numbers = [at.0 / 2, at.1 / 2, size.0 - 1, size.1 - 1];
        let numbers =
            numbers.map(|number| [number as u8, (number >> 8) as u8, (number >> 16) as u8]);
        chunk(b"ANMF", &[&numbers.concat(), &[0; 4][..], chunks].concat())
    }

    fn read(bytes: &[u8]) -> Result<Header, Refusal> {
        Header::read(Cursor::new(bytes), &Limits::tests())
    }

    #[track_caller]
    fn size(chunks: &[&[u8]]) -> (u32, u32) {
        let header = read(&webp(chunks)).expect("a header");
        assert_eq!(header.warnings, []);
        (header.width, header.height)
    }

    #[test]
    fn each_kind_has_the_size_of_its_header() {
        assert_eq!(size(&[&vp8(30, 20)]), (30, 20));
        assert_eq!(size(&[&vp8l(16_384, 20, false)]), (16_384, 20));
        assert_eq!(size(&[&vp8x(0, 30, 20), &vp8(30, 20)]), (30, 20));
        assert_eq!(
            size(&[&vp8x(0x10, 30, 20), &chunk(b"ALPH", b"1"), &vp8(30, 20)]),
            (30, 20)
        );
        let frame = anmf((2, 4), (20, 10), &vp8l(20, 10, true));
        assert_eq!(
            size(&[&vp8x(2, 30, 20), &chunk(b"ANIM", &[0; 6]), &frame]),
            (30, 20)
        );
    }

    #[test]
    fn scale_bits_are_no_part_of_the_size() {
        assert_eq!(size(&[&vp8(30 | 1 << 14, 20 | 3 << 14)]), (30, 20));
        assert_eq!(size(&[&vp8x(0, 30, 20), &vp8(30 | 2 << 14, 20)]), (30, 20));
    }

    #[test]
    fn a_picture_that_is_larger_than_its_canvas_is_refused() {
        let anim = chunk(b"ANIM", &[0; 6]);
        for chunks in [
            [&vp8x(0, 64, 64)[..], &vp8l(16_383, 16_383, true), b""],
            [&vp8x(0, 64, 64), &vp8(16_383, 16_383), b""],
            [
                &vp8x(2, 64, 64),
                &anim,
                &anmf((0, 0), (64, 64), &vp8(16_383, 16_383)),
            ],
            [
                &vp8x(2, 64, 64),
                &anim,
                &anmf((0, 0), (16_383, 1), &vp8(16_383, 1)),
            ],
            [
                &vp8x(2, 64, 64),
                &anim,
                &anmf((2, 0), (64, 64), &vp8(64, 64)),
            ],
        ] {
            let refusal = read(&webp(&chunks)).expect_err("refused");
            assert!(
                refusal.detail.contains("64×64 pixels by its header"),
                "{}",
                refusal.detail
            );
        }
    }

    #[test]
    fn the_exif_chunk_turns_wherever_it_stands_and_whatever_its_flag_says() {
        let (pixels, exif) = (vp8(30, 20), chunk(b"EXIF", &block(6)));
        let prefixed = chunk(b"EXIF", &[b"Exif\0\0", &block(6)[..]].concat());
        for flags in [0, 8] {
            let canvas = vp8x(flags, 30, 20);
            for chunks in [
                [&canvas, &exif, &pixels],
                [&canvas, &pixels, &exif],
                [&canvas, &pixels, &prefixed],
            ] {
                let header = read(&webp(&chunks.map(|chunk| &chunk[..]))).expect("a header");
                assert_eq!(header.upright_size(), (20, 30));
                assert_eq!(header.warnings, []);
            }
        }
    }

    #[test]
    fn a_promise_of_the_header_that_the_file_breaks_is_a_warning() {
        for flags in [0x20, 0x10, 0x08, 0x04] {
            let header = read(&webp(&[&vp8x(flags, 30, 20), &vp8(30, 20)])).expect("a header");
            assert_eq!((header.width, header.height), (30, 20));
            assert_eq!(header.warnings, [Warning::BadHeader], "{flags}");
        }
    }

    #[test]
    fn a_wrong_size_of_the_file_is_a_warning() {
        let exif = chunk(b"EXIF", &block(6));
        let whole = webp(&[&vp8x(8, 30, 20), &vp8(30, 20), &exif]);
        for riff_bytes in [0, whole.len() as u32 + 1000] {
            let mut bytes = whole.clone();
            bytes[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
            let header = read(&bytes).expect("a header");
            assert_eq!(header.orientation, Orientation::Rotate90);
            assert_eq!(header.warnings, [Warning::BadHeader]);
        }
        let header = read(&[&whole, &b"trailing bytes"[..]].concat()).expect("a header");
        assert_eq!(header.warnings, []);
    }

    #[test]
    fn a_webp_without_a_picture_is_refused() {
        let detail = broken().detail;
        for chunks in [
            &[][..],
            &[&vp8x(0, 30, 20)],
            &[&vp8x(2, 30, 20), &vp8(30, 20)],
            &[&vp8x(2, 30, 20), &anmf((0, 0), (30, 20), b"")],
            &[&chunk(b"EXIF", b""), &vp8(30, 20)],
            &[&vp8(30, 20)[..14]],
            &[&chunk(b"VP8 ", &[1, 0, 0, 0x9d, 0x01, 0x2a, 30, 0, 20, 0])],
            &[&chunk(b"VP8L", &[0x2f, 0, 0, 0, 0xff])],
        ] {
            assert_eq!(read(&webp(chunks)).expect_err("refused").detail, detail);
        }
        let refusal = read(&webp(&[&vp8(0, 20)])).expect_err("refused");
        assert!(refusal.detail.contains("no pixels"), "{}", refusal.detail);
    }

    #[test]
    fn memory_counts_planes_and_canvas() {
        let bytes = |chunks: &[&[u8]]| {
            let header = read(&webp(chunks)).expect("a header");
            header.decode_bytes(0.0) as f64 / (3200.0 * 1600.0)
        };
        assert!((bytes(&[&vp8(3200, 1600)]) - (3.0 + 1.5)).abs() < 1e-9);
        assert!((bytes(&[&vp8l(3200, 1600, true)]) - (4.0 + 5.0)).abs() < 1e-9);
        let alpha = bytes(&[
            &vp8x(0x10, 3200, 1600),
            &chunk(b"ALPH", b"1"),
            &vp8(3200, 1600),
        ]);
        assert!((alpha - (4.0 + 1.5 + 6.0)).abs() < 1e-9);
        let frame = anmf((0, 0), (3200, 1600), &vp8(3200, 1600));
        let animated = bytes(&[&vp8x(2, 3200, 1600), &frame]);
        assert!((animated - (4.0 + 4.0 + 4.0 + 1.5)).abs() < 1e-9);
    }
}
