use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::decode;
use crate::{
    Header, Limits, Reason, Warning,
    on_white::blend,
    twins::{Random, assert_no_cut_changes_pixels, assert_twins, decode_as_stored, fixture, input},
};

#[test]
fn pictures_with_all_rows_are_accepted_whatever_else_is_wrong() {
    use Warning::{BadChecksum, BadMetadata, MissingEnd, StrayBytes};
    assert_twins("png-bad-adler.png", "ref-tiny.png", &[BadChecksum], 0.0);
    assert_twins("png-bad-text.png", "ref-tiny.png", &[BadMetadata], 0.0);
    assert_twins(
        "png-idat-after-the-end.png",
        "ref-tiny.png",
        &[StrayBytes],
        0.0,
    );
    assert_twins("png-no-iend.png", "ref-tiny.png", &[MissingEnd], 0.0);
    let too_much = [StrayBytes, MissingEnd];
    assert_twins(
        "png-too-much-and-no-end.png",
        "ref-tiny.png",
        &too_much,
        0.0,
    );
}

#[test]
fn unusual_pictures_look_like_their_twins() {
    assert_twins("png-1-bit.png", "ref-bilevel.png", &[], 0.0);
    assert_twins("png-trns-rgb-16.png", "ref-hole.png", &[], 1.0);
    for turned in ["after-idat", "prefixed"] {
        let name = format!("png-exif-6-{turned}.png");
        assert_twins(&name, "ref-tiny-turned.png", &[], 0.0);
    }
    assert_twins("png-raw-profile-6.png", "ref-tiny-turned.png", &[], 0.0);
    decode_as_stored(&input("png-index-beyond-palette.png")).expect("accepted");
}

#[test]
fn a_wholly_transparent_picture_is_white() {
    let decoded = decode_as_stored(&input("png-all-transparent.png")).expect("accepted");
    assert!(
        decoded
            .pixels
            .as_raw()
            .iter()
            .all(|channel| *channel == 255)
    );
}

#[test]
fn a_picture_with_missing_rows_is_refused() {
    for name in ["bad/rgb8.png", "bad/adam7.png", "bad/palette-alpha.png"] {
        assert_no_cut_changes_pixels(&fixture(name));
    }
}

/// Every color type, bit depth and way of interlacing, with random filters, against the crate `image`.
#[test]
fn every_kind_of_pixel_is_read_as_the_crate_image_reads_it() {
    let depths: [(u8, &[u8]); 5] = [
        (0, &[1, 2, 4, 8, 16]),
        (2, &[8, 16]),
        (3, &[1, 2, 4, 8]),
        (4, &[8, 16]),
        (6, &[8, 16]),
    ];
    let mut random = Random(88_172_645_463_325_252);
    for (color, depths) in depths {
        for depth in depths {
            for interlaced in [false, true] {
                for has_transparency in [false, true] {
                    let (width, height) = (1 + random.below(40), 1 + random.below(40));
                    let kind = [*depth, color, 0, 0, u8::from(interlaced)];
                    let png = Png::random(
                        width as u32,
                        height as u32,
                        kind,
                        has_transparency,
                        &mut random,
                    );
                    let (header, file) = (png.header(), png.file());
                    let mut warnings = Vec::new();
                    let ours = decode(&file, &header, vec![7; 99], &mut warnings);
                    let ours = ours.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
                    let difference_max = u8::from(*depth == 16);
                    let pairs = ours.as_raw().iter().zip(by_image(&file).into_raw());
                    for (ours, theirs) in pairs {
                        assert!(
                            ours.abs_diff(theirs) <= difference_max,
                            "{kind:?} {width}×{height}: {ours} and {theirs}"
                        );
                    }
                    let may_have_key = matches!(color, 0 | 2 | 3) || !has_transparency;
                    let expected: &[Warning] = if may_have_key {
                        &[]
                    } else {
                        &[Warning::BadMetadata]
                    };
                    assert_eq!(warnings, expected, "{kind:?}");
                }
            }
        }
    }
}

/// Rows of many megabytes pass through the window of the inflater several times.
#[test]
fn a_large_picture_is_read_as_the_crate_image_reads_it() {
    for interlaced in [0, 1] {
        let mut random = Random(1_234_567);
        let png = Png::random(700, 900, [16, 6, 0, 0, interlaced], false, &mut random);
        let (header, file) = (png.header(), png.file());
        let ours = decode(&file, &header, Vec::new(), &mut Vec::new()).expect("accepted");
        let theirs = by_image(&file);
        let mut pairs = ours.as_raw().iter().zip(theirs.as_raw());
        assert!(pairs.all(|(ours, theirs)| ours.abs_diff(*theirs) <= 1));
    }
    assert_twins("png-named.jpg", "ref-cat.png", &[], 0.0);
}

#[test]
fn a_wrong_checksum_of_a_chunk_that_the_picture_needs_is_refused() {
    let mut random = Random(42);
    let whole = Png::random(20, 20, [8, 3, 0, 0, 0], true, &mut random);
    for (kind, is_accepted) in [
        (b"IHDR", false),
        (b"PLTE", false),
        (b"IDAT", false),
        (b"tRNS", true),
    ] {
        let mut file = whole.file();
        let place = file
            .windows(4)
            .position(|name| name == kind)
            .expect("a chunk");
        let length: [u8; 4] = file[place - 4..place].try_into().expect("4 bytes");
        file[place + 4 + u32::from_be_bytes(length) as usize] ^= 1;
        let mut warnings = Vec::new();
        let outcome = decode(&file, &whole.header(), Vec::new(), &mut warnings);
        assert_eq!(outcome.is_ok(), is_accepted, "{kind:?}");
        if is_accepted {
            assert_eq!(warnings, [Warning::BadMetadata]);
        }
    }
}

#[test]
fn a_chunk_between_two_parts_of_the_pixels_is_told() {
    let mut random = Random(43);
    let mut png = Png::random(20, 20, [8, 2, 0, 0, 0], false, &mut random);
    png.chunk_between = true;
    let decoded = decode_as_stored(&png.file()).expect("accepted");
    png.chunk_between = false;
    assert!(decoded.pixels == by_image(&png.file()));
    assert_eq!(decoded.warnings, [Warning::StrayBytes]);
}

#[test]
fn a_damaged_palette_is_refused_without_a_panic() {
    let mut random = Random(44);
    let mut png = Png::random(9, 9, [8, 3, 0, 0, 0], false, &mut random);
    for bytes in [0, 1, 4, 5, 769, 771] {
        png.palette = vec![0; bytes];
        let error = decode(&png.file(), &png.header(), Vec::new(), &mut Vec::new());
        assert_eq!(error.expect_err("refused").reason, Reason::Undecodable);
    }
}

/// A PNG of random rows.
struct Png {
    size: (u32, u32),
    /// Bit depth, color type, compression, filter, interlacing.
    kind: [u8; 5],
    palette: Vec<u8>,
    transparency: Option<Vec<u8>>,
    rows: Vec<u8>,
    chunk_between: bool,
}

impl Png {
    fn random(
        width: u32,
        height: u32,
        kind: [u8; 5],
        has_transparency: bool,
        random: &mut Random,
    ) -> Self {
        let [depth, color, .., interlaced] = kind;
        let channels = [1, 0, 3, 1, 2, 0, 4][usize::from(color)];
        let passes: &[[u32; 4]] = if interlaced == 1 {
            &[
                [0, 0, 8, 8],
                [4, 0, 8, 8],
                [0, 4, 4, 8],
                [2, 0, 4, 4],
                [0, 2, 2, 4],
                [1, 0, 2, 2],
                [0, 1, 1, 2],
            ]
        } else {
            &[[0, 0, 1, 1]]
        };
        let mut rows = Vec::new();
        for [x, y, step_x, step_y] in passes {
            let columns = (*x..width).step_by(*step_x as usize).count();
            let row_bytes = (columns * channels * usize::from(depth)).div_ceil(8);
            for _ in (*y..height).step_by(*step_y as usize) {
                if columns > 0 {
                    rows.push(random.below(5) as u8);
                    rows.extend((0..row_bytes).map(|_| random.byte()));
                }
            }
        }
        let palette = if color == 3 {
            (0..3 * (1 << depth)).map(|_| random.byte()).collect()
        } else {
            Vec::new()
        };
        let transparency = has_transparency.then(|| match color {
            0 => vec![0, 1],
            2 => vec![0, 1, 0, 2, 0, 3],
            3 => (0..2).map(|_| random.byte()).collect(),
            _ => vec![0, 0],
        });
        Self {
            size: (width, height),
            kind,
            palette,
            transparency,
            rows,
            chunk_between: false,
        }
    }

    fn header(&self) -> Header {
        Header::read(Cursor::new(self.file()), &Limits::tests()).expect("a header")
    }

    fn file(&self) -> Vec<u8> {
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let sides = [self.size.0.to_be_bytes(), self.size.1.to_be_bytes()].concat();
        push_chunk(&mut file, *b"IHDR", &[&sides[..], &self.kind].concat());
        if self.kind[1] == 3 {
            push_chunk(&mut file, *b"PLTE", &self.palette);
        }
        if let Some(transparency) = &self.transparency {
            push_chunk(&mut file, *b"tRNS", transparency);
        }
        let data = zlib(&self.rows);
        // Several IDAT chunks of odd sizes.
        for (index, part) in data.chunks(data.len() / 3 + 1).enumerate() {
            if self.chunk_between && index == 1 {
                push_chunk(&mut file, *b"tEXt", b"Comment\0here");
            }
            push_chunk(&mut file, *b"IDAT", part);
        }
        push_chunk(&mut file, *b"IEND", &[]);
        file
    }
}

fn push_chunk(file: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let named = [&kind[..], data].concat();
    file.extend(&named);
    file.extend(crc32fast::hash(&named).to_be_bytes());
}

/// A stream that is not compressed.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let blocks: Vec<_> = bytes.chunks(0x7001).collect();
    for (index, block) in blocks.iter().enumerate() {
        stream.push(u8::from(index + 1 == blocks.len()));
        stream.extend((block.len() as u16).to_le_bytes());
        stream.extend((!(block.len() as u16)).to_le_bytes());
        stream.extend(*block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend(((b << 16) | a).to_be_bytes());
    stream
}

/// Decoded by the crate `image`, on white.
fn by_image(file: &[u8]) -> RgbImage {
    let reader = ImageReader::with_format(Cursor::new(file), ImageFormat::Png);
    let decoder = reader.into_decoder().expect("a header");
    let has_alpha = decoder.color_type().has_alpha();
    let image = DynamicImage::from_decoder(decoder).expect("a picture");
    if !has_alpha {
        return image.into_rgb8();
    }
    let rgba = image.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (rgb, rgba) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [red, green, blue, alpha] = rgba.0;
        rgb.0 = [red, green, blue].map(|channel| blend(channel, alpha));
    }
    rgb
}
