//! The orientation of EXIF blocks. JPEG, PNG and WebP have one place each for them.

use std::io::{BufRead, Read, Seek};

use exif::{Error, Exif, In, Reader, Tag};
use image::metadata::Orientation;

use super::{cut_short, skip};
use crate::{Refusal, Warning};

/// Most bytes of a block that are read. A segment of a JPEG has fewer. The orientation stands in the first directory, which
/// all known programs write before thumbnails and notes of the maker.
const BLOCK_BYTES_MAX: u64 = 64 << 10;

/// Most blocks of an image that are read.
const BLOCKS_MAX: usize = 4;

/// The EXIF blocks of an image. The first block that has an orientation counts.
#[derive(Debug, Default)]
pub(super) struct ExifBlocks {
    orientation: Option<Orientation>,
    blocks: usize,
    is_broken: bool,
}

impl ExifBlocks {
    /// Reads the block of so many bytes that comes next, and stops behind it.
    pub(super) fn read(
        &mut self,
        image: &mut (impl BufRead + Seek),
        bytes: u64,
    ) -> Result<(), Refusal> {
        if self.is_complete() {
            return skip(image, bytes);
        }
        let mut block = Vec::new();
        let read = image
            .by_ref()
            .take(bytes.min(BLOCK_BYTES_MAX))
            .read_to_end(&mut block)
            .map_err(cut_short)?;
        self.add(block);
        skip(image, bytes - read as u64)
    }

    /// Adds a block.
    pub(super) fn add(&mut self, mut block: Vec<u8>) {
        if self.is_complete() {
            return;
        }
        self.blocks += 1;
        // The name of a JPEG's segment. Some programs write it in chunks of PNG and WebP, too.
        if block.starts_with(b"Exif\0") {
            block.drain(..block.len().min(6));
        }
        match orientation(block) {
            Ok(orientation) => self.orientation = orientation,
            Err(_) => self.is_broken = true,
        }
    }

    /// Whether the image has a block.
    pub(super) fn is_used(&self) -> bool {
        self.blocks > 0
    }

    /// Whether another block would change nothing.
    fn is_complete(&self) -> bool {
        self.orientation.is_some() || self.blocks == BLOCKS_MAX
    }

    /// How the image is turned upright. A block that cannot be read is a warning.
    pub(super) fn orientation(self, warnings: &mut Vec<Warning>) -> Orientation {
        if self.is_broken {
            warnings.push(Warning::BadMetadata);
        }
        self.orientation.unwrap_or(Orientation::NoTransforms)
    }
}

/// The orientation of a block: of its first directory, whose type is BYTE, SHORT or LONG. The directory of the thumbnail does
/// not count. 0 and values above 8 are none.
///
/// # Errors
/// The block is broken, and no orientation was found before the break.
fn orientation(mut block: Vec<u8>) -> Result<Option<Orientation>, Error> {
    hide_child_directories(&mut block);
    let mut error = None;
    let exif = Reader::new().continue_on_error(true).read_raw(block);
    let exif: Exif = exif.or_else(|cause| {
        cause.distill_partial_result(|errors| error = errors.into_iter().next())
    })?;
    let field = exif.get_field(Tag::Orientation, In::PRIMARY);
    match (field.and_then(|field| field.value.get_uint(0)), error) {
        (Some(value), _) => Ok(u8::try_from(value).ok().and_then(Orientation::from_exif)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// Overwrites the tags that point to directories other than the main ones.
///
/// `kamadak-exif` reads every child directory once, but directories may overlap: a block of 64 KB has room for thousands of
/// directories of thousands of fields each, which take hundreds of megabytes. The orientation is in none of them.
fn hide_child_directories(block: &mut [u8]) {
    const HEADER_BYTES: usize = 8;
    const TAGS: [Tag; 3] = [
        Tag::ExifIFDPointer,
        Tag::GPSInfoIFDPointer,
        Tag::InteropIFDPointer,
    ];
    let is_little_endian = block.starts_with(b"II");
    let tags = TAGS.map(|tag| {
        if is_little_endian {
            tag.number().to_le_bytes()
        } else {
            tag.number().to_be_bytes()
        }
    });
    for at in HEADER_BYTES..block.len().saturating_sub(3) {
        let [first, second, kind @ ..] = [block[at], block[at + 1], block[at + 2], block[at + 3]];
        // Types of fields have the numbers 1 to 13.
        let is_type = matches!(
            (is_little_endian, kind),
            (true, [1..=13, 0]) | (false, [0, 1..=13])
        );
        if is_type && tags.contains(&[first, second]) {
            block[at..at + 2].fill(0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A little-endian block without a field.
    pub(in crate::header) const BLOCK_WITHOUT_ORIENTATION: &[u8] = b"II*\0\x08\0\0\0\0\0\0\0\0\0";

    const BYTE: u16 = 1;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;

    /// A field, whose value is written at its start.
    fn field(is_little: bool, tag: u16, kind: u16, value: u32) -> Vec<u8> {
        let short = |value: u16| {
            if is_little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let long = |value: u32| {
            if is_little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let value = match kind {
            BYTE => [value as u8, 0, 0, 0],
            SHORT => {
                let [first, second] = short(value as u16);
                [first, second, 0, 0]
            }
            _ => long(value),
        };
        [&short(tag)[..], &short(kind), &long(1), &value].concat()
    }

    /// A block with these directories, one behind the other.
    fn block_of(is_little: bool, directories: &[&[Vec<u8>]]) -> Vec<u8> {
        let long = |value: u32| {
            if is_little {
                value.to_le_bytes()
            } else {
                value.to_be_bytes()
            }
        };
        let mut block = if is_little {
            b"II*\0".to_vec()
        } else {
            b"MM\0*".to_vec()
        };
        block.extend(long(8));
        for (index, fields) in directories.iter().enumerate() {
            let count = fields.len() as u16;
            block.extend(if is_little {
                count.to_le_bytes()
            } else {
                count.to_be_bytes()
            });
            block.extend(fields.concat());
            let next = block.len() as u32 + 4;
            block.extend(long(if index + 1 < directories.len() {
                next
            } else {
                0
            }));
        }
        block
    }

    /// A block with one orientation.
    pub(in crate::header) fn block(orientation: u32) -> Vec<u8> {
        block_of(true, &[&[field(true, 0x112, SHORT, orientation)]])
    }

    fn read(block: &[u8]) -> (Orientation, bool) {
        let mut blocks = ExifBlocks::default();
        blocks.add(block.to_vec());
        let mut warnings = Vec::new();
        let orientation = blocks.orientation(&mut warnings);
        (orientation, warnings == [Warning::BadMetadata])
    }

    #[test]
    fn every_integer_type_in_both_byte_orders_is_read() {
        for is_little in [true, false] {
            for kind in [BYTE, SHORT, LONG] {
                let block = block_of(is_little, &[&[field(is_little, 0x112, kind, 6)]]);
                assert_eq!(read(&block), (Orientation::Rotate90, false), "{kind}");
                let prefixed = [b"Exif\0\0", &block[..]].concat();
                assert_eq!(read(&prefixed), (Orientation::Rotate90, false), "{kind}");
            }
        }
    }

    #[test]
    fn values_that_name_no_orientation_are_none() {
        for value in [0, 9, 255, 262] {
            let block = block_of(true, &[&[field(true, 0x112, LONG, value)]]);
            assert_eq!(read(&block), (Orientation::NoTransforms, false), "{value}");
        }
    }

    #[test]
    fn the_directory_of_the_thumbnail_never_counts() {
        let six = || vec![field(true, 0x112, SHORT, 6)];
        let one = || vec![field(true, 0x112, SHORT, 1)];
        let orientation =
            |first: &[Vec<u8>], second: &[Vec<u8>]| read(&block_of(true, &[first, second])).0;
        assert_eq!(orientation(&one(), &six()), Orientation::NoTransforms);
        assert_eq!(orientation(&six(), &one()), Orientation::Rotate90);
        assert_eq!(orientation(&[], &six()), Orientation::NoTransforms);
    }

    #[test]
    fn tags_may_be_out_of_order() {
        let fields = [
            field(true, 0x131, SHORT, 1),
            field(true, 0x112, SHORT, 6),
            field(true, 0x100, LONG, 9),
        ];
        assert_eq!(read(&block_of(true, &[&fields])).0, Orientation::Rotate90);
    }

    #[test]
    fn a_break_behind_the_orientation_does_not_hide_it() {
        let mut cut = block_of(true, &[&[field(true, 0x112, SHORT, 6)]]);
        cut.truncate(cut.len() - 2);
        assert_eq!(read(&cut), (Orientation::Rotate90, false));
    }

    #[test]
    fn a_broken_block_has_no_orientation_and_a_warning() {
        for broken in [
            &b""[..],
            b"II*\0",
            b"XX*\0\x08\0\0\0\0\0",
            b"II*\0\xff\0\0\0",
            b"II*\0\x08\0\0\0\x09\0",
        ] {
            assert_eq!(
                read(broken),
                (Orientation::NoTransforms, true),
                "{broken:?}"
            );
        }
    }

    #[test]
    fn directories_that_overlap_are_not_read() {
        const POINTERS: u32 = 2500;
        let first = 8 + 2 + 12 * POINTERS + 4;
        let pointer = |at| field(true, 0x8769, LONG, first + 12 * at);
        let mut block = block_of(true, &[&(0..POINTERS).map(pointer).collect::<Vec<_>>()]);
        // The last two bytes of each field are the number of fields of the directory that begins there.
        let count = POINTERS as u16;
        block.extend(count.to_le_bytes());
        for left in (0..POINTERS).rev() {
            block.extend(field(true, 0x9000, SHORT, 0));
            let end = block.len();
            block[end - 2..].copy_from_slice(&(left as u16).to_le_bytes());
        }
        block.extend([0; 4]);
        assert!(block.len() < BLOCK_BYTES_MAX as usize);
        hide_child_directories(&mut block);
        let exif = Reader::new().read_raw(block).expect("a sound block");
        assert_eq!(exif.fields().count(), POINTERS as usize);
    }
}
