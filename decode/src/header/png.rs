//! The header of a PNG: its chunks, without the pixels in them.
//!
//! A PNG is turned by its `eXIf` chunk, before or behind the pixels, and else by the EXIF profile that ImageMagick writes as
//! text. Pillow does so, too (`ImageOps.exif_transpose`); browsers ignore what stands behind the pixels, and the text.

use std::io::{BufRead, Read, Seek};

use flate2::read::ZlibDecoder;

use super::{Header, Layout, area, broken, cut_short, exif::ExifBlocks, read_array, skip};
use crate::{Format, Refusal};

/// Most chunks that are read. Most programs write the pixels in chunks of 8 KB or more.
const CHUNKS_MAX: usize = 1 << 16;

/// Most bytes of a text chunk with an EXIF profile, and of its text: two digits for each byte of a block.
const PROFILE_BYTES_MAX: u64 = 160 << 10;

pub(super) fn read(image: &mut (impl BufRead + Seek)) -> Result<Header, Refusal> {
    let _signature: [u8; 8] = read_array(image)?;
    let [l3, l2, l1, l0, name @ ..] = read_array::<8>(image)?;
    match (u32::from_be_bytes([l3, l2, l1, l0]), &name) {
        (13, b"IHDR") => {}
        (_, b"CgBI") => {
            return Err(Refusal::undecodable(
                "the PNG cannot be decoded: it is of a kind that only Apple's tools read (CgBI)",
            ));
        }
        _ => return Err(broken()),
    }
    let (width, height) = read_size(image)?;
    let checksum = 4;
    skip(image, checksum)?;
    // A file that ends early has no pixels, which the decoder tells.
    let chunks = Chunks::read(image);
    let mut header = Header::new(
        Format::Png,
        (width, height),
        Layout::Whole {
            // RGB; rows of up to 8 bytes a pixel, as they are read and converted; and a window of compressed data.
            decoding_bytes: area((width, height))
                .saturating_mul(3)
                .saturating_add(64 * u64::from(width) + (1 << 19)),
            pixel_bytes: 3,
        },
    );
    let has_chunk = chunks.exif.is_used();
    let exif = if has_chunk {
        chunks.exif
    } else {
        chunks.profile
    };
    header.orientation = exif.orientation(&mut header.warnings);
    Ok(header)
}

/// The size in the chunk IHDR, whose other fields must be known.
fn read_size(image: &mut impl BufRead) -> Result<(u32, u32), Refusal> {
    let width = u32::from_be_bytes(read_array(image)?);
    let height = u32::from_be_bytes(read_array(image)?);
    let [bits, color_type, compression, filter, interlacing] = read_array(image)?;
    let is_known = matches!(
        (color_type, bits),
        (0, 1 | 2 | 4 | 8 | 16) | (3, 1 | 2 | 4 | 8) | (2 | 4 | 6, 8 | 16)
    );
    if is_known && compression == 0 && filter == 0 && interlacing <= 1 {
        Ok((width, height))
    } else {
        Err(broken())
    }
}

/// What the chunks behind IHDR say.
#[derive(Default)]
struct Chunks {
    /// Of chunks eXIf.
    exif: ExifBlocks,
    /// Of text chunks.
    profile: ExifBlocks,
}

impl Chunks {
    /// Reads up to the end of the PNG, or of the bytes.
    fn read(image: &mut (impl BufRead + Seek)) -> Self {
        let mut chunks = Self::default();
        for _ in 0..CHUNKS_MAX {
            match chunks.read_next(image) {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
        chunks
    }

    /// Reads a chunk. False: it was the last one.
    fn read_next(&mut self, image: &mut (impl BufRead + Seek)) -> Result<bool, Refusal> {
        let bytes = u64::from(u32::from_be_bytes(read_array(image)?));
        let mut left = bytes;
        match &read_array::<4>(image)? {
            b"IEND" => return Ok(false),
            b"eXIf" => {
                self.exif.read(image, bytes)?;
                left = 0;
            }
            name @ (b"tEXt" | b"zTXt") if (1..=PROFILE_BYTES_MAX).contains(&bytes) => {
                let mut text = Vec::new();
                let read = image.by_ref().take(bytes).read_to_end(&mut text);
                left -= read.map_err(cut_short)? as u64;
                if let Some(block) = profile(&text, name == b"zTXt") {
                    self.profile.add(block);
                }
            }
            _ => {}
        }
        let checksum = 4;
        skip(image, left + checksum)?;
        Ok(true)
    }
}

/// The EXIF block in a text chunk: a name, a line break, the kind of profile, its length, and hexadecimal digits.
fn profile(text: &[u8], is_compressed: bool) -> Option<Vec<u8>> {
    const NAMES: [&[u8]; 2] = [b"Raw profile type exif\0", b"Raw profile type APP1\0"];
    let text = NAMES.iter().find_map(|name| text.strip_prefix(*name))?;
    let mut inflated = Vec::new();
    let text = if is_compressed {
        let (_method, deflated) = text.split_first()?;
        // A cut text may have the orientation in its first bytes.
        let _cut = ZlibDecoder::new(deflated)
            .take(PROFILE_BYTES_MAX)
            .read_to_end(&mut inflated);
        &inflated[..]
    } else {
        text
    };
    let mut lines = text.splitn(4, |byte| *byte == b'\n').skip(3);
    let digits = lines
        .next()?
        .iter()
        .filter_map(|digit| char::from(*digit).to_digit(16));
    let digits: Vec<_> = digits.collect();
    let (pairs, _odd) = digits.as_chunks::<2>();
    let block: Vec<_> = pairs
        .iter()
        .map(|[high, low]| (high * 16 + low) as u8)
        .collect();
    // The profile APP1 may be XMP instead.
    block.starts_with(b"Exif\0").then_some(block)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::{Compression, write::ZlibEncoder};
    use image::metadata::Orientation;

    use super::super::exif::tests::block;
    use super::*;
    use crate::{Limits, Warning};

    fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], name, data, &[0; 4]].concat()
    }

    /// The chunk IHDR of 30×20 pixels.
    fn image_header(bits: u8, color_type: u8) -> Vec<u8> {
        chunk(
            b"IHDR",
            &[0, 0, 0, 30, 0, 0, 0, 20, bits, color_type, 0, 0, 0],
        )
    }

    fn read(chunks: &[&[u8]]) -> Result<Header, Refusal> {
        let bytes = [b"\x89PNG\r\n\x1a\n", &chunks.concat()[..]].concat();
        Header::read(Cursor::new(bytes), &Limits::tests())
    }

    #[test]
    fn pixels_count_as_rgb_whatever_their_depth_and_again_for_a_quarter_turn() {
        for (bits, color_type) in [(1, 0), (8, 3), (16, 2), (8, 4), (16, 6)] {
            for (orientation, bytes) in [(1, 3), (3, 3), (6, 6)] {
                let mut start = image_header(bits, color_type);
                start[8..16].copy_from_slice(&[0, 0, 0x1f, 0x40, 0, 0, 0x13, 0x88]);
                let exif = chunk(b"eXIf", &block(orientation));
                let header = read(&[&start, &exif]).expect("a header");
                assert_eq!((header.width, header.height), (8000, 5000));
                assert_eq!(header.decode_bytes(0.0) / 40_000_000, bytes);
            }
        }
    }

    #[test]
    fn the_exif_chunk_turns_wherever_it_stands() {
        let (start, pixels, exif) = (
            image_header(8, 2),
            chunk(b"IDAT", b"..."),
            chunk(b"eXIf", &block(6)),
        );
        for chunks in [[&start, &exif, &pixels], [&start, &pixels, &exif]] {
            let header = read(&chunks.map(|chunk| &chunk[..])).expect("a header");
            assert_eq!(header.upright_size(), (20, 30));
        }
    }

    #[test]
    fn a_text_chunk_with_an_exif_profile_turns_unless_a_chunk_of_its_own_does() {
        let exif = [b"Exif\0\0", &block(6)[..]].concat();
        let digits: Vec<_> = exif.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits: Vec<_> = digits.chunks(10).map(<[String]>::concat).collect();
        let text = format!("\nexif\n      {}\n{}\n", exif.len(), digits.join("\n"));
        let plain = chunk(b"tEXt", format!("Raw profile type exif\0{text}").as_bytes());
        let mut deflated =
            ZlibEncoder::new(b"Raw profile type APP1\0\0".to_vec(), Compression::fast());
        deflated.write_all(text.as_bytes()).expect("memory");
        let deflated = chunk(b"zTXt", &deflated.finish().expect("memory"));
        for profile in [&plain, &deflated] {
            let header =
                read(&[&image_header(8, 2), profile, &chunk(b"IDAT", b"")]).expect("a header");
            assert_eq!(header.orientation, Orientation::Rotate90);
            let exif = chunk(b"eXIf", &block(1));
            let header = read(&[&image_header(8, 2), profile, &exif]).expect("a header");
            assert_eq!(header.orientation, Orientation::NoTransforms);
        }
    }

    #[test]
    fn broken_metadata_is_a_warning() {
        let exif = chunk(b"eXIf", b"no TIFF");
        let header = read(&[&image_header(8, 2), &exif, &chunk(b"IDAT", b"")]).expect("a header");
        assert_eq!(header.warnings, [Warning::BadMetadata]);
    }

    #[test]
    fn the_first_chunk_must_be_a_complete_image_header() {
        let refusal = |chunks: &[&[u8]]| read(chunks).expect_err("refused").detail;
        let header = image_header(8, 2);
        assert_eq!(refusal(&[&header[..20]]), broken().detail);
        assert_eq!(
            refusal(&[&chunk(b"tEXt", b"a\0b"), &header]),
            broken().detail
        );
        assert_eq!(refusal(&[&image_header(3, 2)]), broken().detail);
        assert!(refusal(&[&chunk(b"CgBI", b"P\0 \x06"), &header]).contains("CgBI"));
    }
}
